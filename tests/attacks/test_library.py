"""Options and sources that no caller should give, to the library: each is an error of ours (row 18)."""

import io

import numpy as np
import pytest
from PIL import Image

import hrn_opt
from hrn_opt.errors import HrnOptError, OptionInvalid
from tests.attacks.strangers import figure

ODD = (
    None,
    "x",
    b"x",
    -1,
    1.5,
    float("nan"),
    True,
    [1],
    {},
    object(),
    "\0",
    "\ud800",
    10**30,
    np.int64(1),
    np.zeros(3),
)


class Raising(io.RawIOBase):
    def __init__(self, error):
        super().__init__()
        self._error = error

    def read(self, *_):
        raise self._error


def _outcome(call):
    """The class of what is raised; "done" where nothing is."""
    try:
        call()
    except Exception as error:  # noqa: BLE001  # what is wrong is what is looked for
        return type(error)
    return "done"


def test_18_odd_options_are_errors_of_ours(model, example_photo, record_property):
    wrong = {}
    for name in ("face", "want", "texture_size", "faces", "stop", "hints", "landmarks", "skin_mask", "cheek_widening"):
        for value in ODD:
            kind = _outcome(lambda name=name, value=value: model.reconstruct(example_photo, **{name: value}))
            if kind != "done" and not issubclass(kind, HrnOptError):
                wrong[f"{name}={value!r}"[:60]] = kind.__name__
    for name in ("faces", "stop", "cheek_widening", "want", "texture_size"):
        for value in ODD:
            kind = _outcome(lambda name=name, value=value: model.reconstruct_all(example_photo, **{name: value}))
            if kind != "done" and not issubclass(kind, HrnOptError):
                wrong[f"all {name}={value!r}"[:60]] = kind.__name__
    figure(record_property, 18, options=9 * len(ODD) + 5 * len(ODD), raw_errors=len(wrong))
    assert not wrong


@pytest.mark.parametrize("option", ["model", "device", "precision", "memory", "offload_folder"])
def test_18_odd_options_of_load(option):
    for value in ODD:
        kind = _outcome(lambda value=value: hrn_opt.load(**{"model": "builtin", option: value}))
        assert kind == "done" or issubclass(kind, HrnOptError), (value, kind)


def test_18_unknown_keywords_are_named(model, example_photo):
    with pytest.raises(OptionInvalid, match="texturesize"):
        model.reconstruct(example_photo, texturesize=512)


@pytest.mark.parametrize("error", [
    ValueError("x"), OSError("x"), RuntimeError("x"), MemoryError(), UnicodeDecodeError("ascii", b"x", 0, 1, "x"),
    EOFError(), TypeError("x"), KeyError("x"), StopIteration(),
])  # fmt: skip
def test_18_readers_that_raise(model, error):
    with pytest.raises(HrnOptError):
        model.find(Raising(error))


@pytest.mark.parametrize("source", [
    *ODD, Image.new("P", (0, 0)), np.zeros((0, 0, 3), np.uint8), np.full((90, 90, 3), np.nan), iter([b"x"]), len,
])  # fmt: skip
def test_18_odd_sources(model, source):
    with pytest.raises(HrnOptError):
        model.find(source)
