"""Which model, on which device: the one way to a Reconstructor."""

from __future__ import annotations

from hrn_opt.builtin.model import NAME as BUILTIN
from hrn_opt.builtin.model import BuiltinModel
from hrn_opt.errors import OptionInvalid
from hrn_opt.pipeline import Reconstructor


def load(model: str = "auto", *, device: str = "auto", precision: str = "auto", memory: str = "auto") -> Reconstructor:
    """A model, ready to reconstruct; `.name` says which one "auto" picked.

    model: "auto" or "builtin", the embedded model. It runs on the CPU in float32 within 1 GB whatever is asked:
    its networks are too small to gain from anything else (bf16 would move its points by up to 0.8 of 192 px).
    device: "auto" or "cpu".   precision: "auto" or "fp32".   memory: "auto".
    """
    if model not in ("auto", BUILTIN):
        raise OptionInvalid(f"model={model!r} is not known; use 'auto' or 'builtin'.")
    asked = {
        "device": (device, ("auto", "cpu")),
        "precision": (precision, ("auto", "fp32")),
        "memory": (memory, ("auto",)),
    }
    for option, (value, possible) in asked.items():
        if value not in possible:
            choices = " or ".join(repr(choice) for choice in possible)
            raise OptionInvalid(f"{option}={value!r} is not possible with the embedded model; use {choices}.")
    return Reconstructor(BuiltinModel.load())
