"""Checkpoints of unknown make, read without running anything that they hold.

A training run leaves more beside its weights than tensors: parsed arguments, paths, NumPy's numbers. Torch's own safe
reader refuses a file for any of these. Ours builds tensors and plain containers; everything else, whatever it is,
becomes an inert stand-in that is dropped with the rest of the leftovers.
"""

from __future__ import annotations

import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch

from hrn_opt.errors import PackDamaged, PackForeign
from hrn_opt.program import FETCH

_REMEDY = f"fetch the pack again ({FETCH})"
_PICKLE = b"\x80"  # how every pickle of protocol 2 and later begins
_ZIP = b"PK\x03\x04"
_SCRIPT_RECORD = "constants.pkl"  # of TorchScript archives, which torch would load as programs

# All that a pickle may call. Each builds a value of its arguments and does nothing else.
_ALLOWED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch", "Size"): torch.Size,
    ("torch._utils", "_rebuild_tensor"): torch._utils._rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
    ("torch._utils", "_rebuild_parameter"): torch._utils._rebuild_parameter,
}


class Inert:
    """Stands in for whatever a checkpoint holds beside weights: it takes any call of a pickle, and keeps nothing."""

    def __new__(cls, *_values: Any, **_named: Any) -> Inert:
        return super().__new__(cls)

    def __init__(self, *_values: Any, **_named: Any):
        pass

    def __setstate__(self, _state: Any) -> None:
        pass

    def __setitem__(self, _key: Any, _value: Any) -> None:
        pass

    def append(self, _value: Any) -> None:
        pass

    def extend(self, _values: Any) -> None:
        pass

    def add(self, _value: Any) -> None:
        pass


class _InertUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        return _ALLOWED.get((module, name), Inert)


class _InertPickle:
    """As torch.load wants the module that unpickles."""

    Unpickler = _InertUnpickler
    __name__ = "hrn_opt.hrn.pack.checkpoint"

    @staticmethod
    def load(file: Any, **options: Any) -> Any:
        return _InertUnpickler(file, **options).load()


def load_checkpoint(path: Path) -> dict[Any, Any]:
    """What a checkpoint holds: tensors on the CPU, mapped from the file where its format allows it; the rest is inert.

    Nothing in the file is run. Raises PackDamaged, or PackForeign for what is no checkpoint.
    """
    with path.open("rb") as file:
        start = file.read(len(_ZIP))
    is_zip = start == _ZIP
    if not is_zip and not start.startswith(_PICKLE):
        raise PackDamaged(f"{path.name} is truncated or damaged; {_REMEDY}.")
    try:
        if is_zip and _is_script(path):
            raise PackForeign(f"{path.name} is a TorchScript program, not weights; {_REMEDY}.")
        content = torch.load(path, map_location="cpu", pickle_module=_InertPickle, weights_only=False, mmap=is_zip)
    except PackForeign:
        raise
    # A damaged pickle can raise anything at all: KeyError, struct.error, EOFError, …
    except Exception as error:
        raise PackDamaged(f"{path.name} is truncated or damaged; {_REMEDY}.") from error
    if not isinstance(content, dict):
        raise PackDamaged(f"{path.name} holds no named weights; {_REMEDY}.")
    return content


def _is_script(path: Path) -> bool:
    with zipfile.ZipFile(path) as archive:
        return any(name.rpartition("/")[2] == _SCRIPT_RECORD for name in archive.namelist())
