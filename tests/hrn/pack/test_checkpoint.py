"""Checkpoints of unknown make: weights are read, whatever lies beside them, and none of it runs."""

import argparse
import collections
import io
import os
import pathlib
import tarfile

import numpy as np
import pytest
import torch

from hrn_opt.errors import PackDamaged, PackForeign
from hrn_opt.hrn.pack import published
from hrn_opt.hrn.pack.checkpoint import Inert, load_checkpoint
from hrn_opt.hrn.pack.prepare import prepare

WEIGHTS = {"net": {"a.weight": torch.arange(6.0).reshape(2, 3), "b": torch.nn.Parameter(torch.ones(2))}}
FORMATS = pytest.mark.parametrize("is_zip", [True, False])


class Call:
    """Unpickling this calls a function."""

    def __init__(self, function, *values):
        self.function, self.values = function, values

    def __reduce__(self):
        return self.function, self.values


class Config:
    """Of a training run: a class that is not here when its checkpoint is read."""

    def __init__(self):
        self.rate = 0.1


def leftovers(trap):
    counts = collections.defaultdict(list)
    counts["loss"] += [np.float64(0.5), np.uint8(3), np.float16(1)]
    inner = io.BytesIO()  # a checkpoint within, which torch's own function would load without asking
    torch.save(torch.zeros(1), inner)
    counters = [collections.Counter("abc"), {1, 2}, frozenset({3}), slice(1, 2), complex(1, 2), bytearray(b"x")]
    return {
        "opt": argparse.Namespace(lr=np.float32(0.1), path=pathlib.Path("/tmp"), nested=argparse.Namespace(x=1)),
        "history": counts,
        "config": Config(),
        "arrays": [np.zeros((2, 3), np.uint8), np.arange(4, dtype="i2"), np.array(["text"]), np.array([{}], object)],
        "others": [torch.float16, torch.device("cpu"), torch.Size([1, 2]), *counters],
        "optimizer": {"state": {0: {"step": torch.tensor(3.0)}}, "groups": [{"lr": np.float64(0.1)}]},
        "system": Call(os.system, f"mkdir -p {trap}"),
        "made": Call(os.makedirs, str(trap), 0o700, True),
        "evaluated": Call(eval, f"__import__('os').makedirs({str(trap)!r}, exist_ok=True)"),
        "loaded": Call(torch.storage._load_from_bytes, inner.getvalue()),
        "attribute": Call(getattr, "text", "upper"),
    }


def saved(path, content, is_zip):
    torch.save(content, path, _use_new_zipfile_serialization=is_zip)
    return path


@FORMATS
def test_weights_are_read_whatever_lies_beside_them(tmp_path, is_zip):
    trap = tmp_path / "sprung"
    path = saved(tmp_path / "model.pth", WEIGHTS | leftovers(trap), is_zip)
    read = load_checkpoint(path)
    assert not trap.exists()
    for name, tensor in WEIGHTS["net"].items():
        assert torch.equal(read["net"][name], tensor)
    assert isinstance(read["opt"], Inert) and isinstance(read["system"], Inert)
    torch.load(path, weights_only=False)
    assert trap.exists()  # the trap works


@FORMATS
def test_a_pack_with_such_leftovers_is_prepared(linked_pack, tmp_path, is_zip):
    trap = tmp_path / "sprung"
    for path in (published.WEIGHTS, published.RETOUCH_WEIGHTS, published.LANDMARKS106_WEIGHTS):
        content = load_checkpoint(linked_pack / path) | leftovers(trap)
        for state in content.values():
            if isinstance(state, dict) and any(isinstance(value, torch.Tensor) for value in state.values()):
                state["epoch"] = np.int64(7)
        (linked_pack / path).unlink()
        saved(linked_pack / path, content, is_zip)
    assert (prepare(linked_pack, tmp_path / "prepared") / "manifest.json").is_file()
    assert not trap.exists()


@FORMATS
@pytest.mark.parametrize("name", ["_rebuild_tensor_v2", "_rebuild_parameter"])
def test_what_may_be_called_cannot_be_made_to_call_others(tmp_path, is_zip, name):
    trap = tmp_path / "sprung"
    function = getattr(torch._utils, name)
    content = {"net": Call(function, Call(os.mkdir, str(trap)), 0, (1,), (1,), False, collections.OrderedDict())}
    path = saved(tmp_path / "model.pth", content, is_zip)
    with pytest.raises(PackDamaged):
        load_checkpoint(path)
    assert not trap.exists()


def test_a_torchscript_program_is_refused(tmp_path):
    path = tmp_path / "model.pth"
    with pytest.warns(DeprecationWarning):
        torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), path)
    with pytest.raises(PackForeign, match="program"):
        load_checkpoint(path)


def test_a_tar_archive_of_old_torch_is_refused(tmp_path):
    path = tmp_path / "model.pth"
    with tarfile.open(path, "w") as archive:
        archive.add(__file__, "storages")
    with pytest.raises(PackDamaged):
        load_checkpoint(path)


@FORMATS
def test_cut_anywhere_it_is_damaged(tmp_path, is_zip):
    whole = saved(tmp_path / "model.pth", WEIGHTS | {"opt": argparse.Namespace(lr=1)}, is_zip).read_bytes()
    path = tmp_path / "cut.pth"
    for share in (0, 1, 3, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:share])
        with pytest.raises(PackDamaged):
            load_checkpoint(path)
