"""Which model, on which device, in which precision: the one way to a Reconstructor."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from hrn_opt.builtin.landmarks68 import landmark_finder
from hrn_opt.builtin.model import BuiltinModel
from hrn_opt.errors import ModelMissing, OptionInvalid
from hrn_opt.options import BUILTIN, HRN
from hrn_opt.pipeline import Reconstructor
from hrn_opt.program import FETCH
from hrn_opt.protocol import BatchModel
from hrn_opt.runtime import DeviceInfo, parse_device, parse_precision

if TYPE_CHECKING:
    from hrn_opt.hrn.pack.prepared import PreparedPack


def load(
    model: str | os.PathLike[str] = "auto",
    *,
    device: str = "auto",
    precision: str = "auto",
    memory: str | float = "auto",
    offload_folder: str | os.PathLike[str] | None = None,
) -> Reconstructor:
    """A model, ready to reconstruct; `.name` says which one "auto" picked.

    model: "builtin", the embedded model; "hrn", the pack that `hrn-opt fetch` prepared; a folder with a pack, published
    (prepared once, into the cache) or prepared; "auto": HRN when its prepared pack is there, else
    builtin.
    device: "auto" (CUDA when there is one), "cpu", "cuda", "cuda:1".
    precision: of HRN's two large networks: "fp32", "bf16", "fp16"; "auto" is fp16 on CUDA, bf16
    on a CPU with instructions for it, else fp32; say "fp32" for the published numbers.
    memory: how many GiB of the device HRN may take, or "auto"; what does not fit waits on the CPU or in offload_folder.
    The embedded model runs on the CPU in float32 within 1 GB whatever the machine has, and takes no other choice.
    """
    if not isinstance(model, str | os.PathLike):
        raise OptionInvalid(f"model={model!r} is not known; use 'auto', 'builtin', 'hrn', or a pack's folder.")
    model = best_model() if model == "auto" else model
    if model == BUILTIN:
        return Reconstructor(_builtin(device, precision, memory, offload_folder))
    from hrn_opt.hrn.model import HrnModel

    on = parse_device(device)
    dtype = parse_precision(precision, on)
    pack = _opened(Path(model) if model != HRN else None)
    finder = None if pack.has_detectors else landmark_finder()
    hrn: BatchModel = HrnModel.load(pack, on, dtype, memory, offload_folder, finder)
    return Reconstructor(hrn, DeviceInfo.of(on, dtype))


def best_model() -> str:
    """What "auto" stands for on this machine now: "hrn" or "builtin"."""
    from hrn_opt.hrn.pack.state import PackState, pack_state

    # Without detectors the embedded model finds the landmarks. A damaged pack is refused, not ignored.
    there = (PackState.READY, PackState.WITHOUT_DETECTORS, PackState.DAMAGED)
    return HRN if pack_state() in there else BUILTIN


def _builtin(
    device: str, precision: str, memory: str | float, offload_folder: str | os.PathLike[str] | None
) -> BuiltinModel:
    asked: dict[str, tuple[object, tuple[object, ...]]] = {
        "offload_folder": (offload_folder, (None,)),
        "device": (device, ("auto", "cpu")),
        "precision": (precision, ("auto", "fp32")),
        "memory": (memory, ("auto",)),
    }
    for option, (value, possible) in asked.items():
        if not any(type(value) is type(one) and value == one for one in possible):
            choices = " or ".join(repr(choice) for choice in possible)
            raise OptionInvalid(f"{option}={value!r} is not possible with the embedded model; use {choices}.")
    return BuiltinModel.load()


def _opened(folder: Path | None) -> PreparedPack:
    """The prepared pack in a folder, or in the cache; a published pack is prepared first, once."""
    from hrn_opt.hrn.pack.home import PREPARED, default_folder, is_prepared
    from hrn_opt.hrn.pack.prepare import prepare
    from hrn_opt.hrn.pack.prepared import open_prepared
    from hrn_opt.hrn.pack.published import is_published

    if folder is None:
        folder = default_folder() / PREPARED
        if not is_prepared(folder):
            raise ModelMissing(f"HRN is not on this machine; get it with {FETCH}, or use the builtin model.", model=HRN)
        return open_prepared(folder)
    if is_prepared(folder):
        return open_prepared(folder)
    if not is_published(folder):
        raise OptionInvalid(f"model={str(folder)!r} is not known; use 'auto', 'builtin', 'hrn', or a pack's folder.")
    name = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]
    return open_prepared(prepare(folder, default_folder() / "packs" / name))
