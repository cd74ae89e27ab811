"""How the machine is used: device, precision, threads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from hrn_opt.errors import OptionInvalid

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Torch's CPU operators use `count` threads inside, as many as before outside; for the calling thread only."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def parse_device(device: str) -> torch.device:
    """ "auto" takes CUDA when there is one. OptionInvalid for what this machine lacks."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        parsed = torch.device(device)
    except (RuntimeError, TypeError):
        raise OptionInvalid(f"device={device!r} is not known; use 'auto', 'cpu', 'cuda' or 'cuda:1'.") from None
    if parsed.type == "cuda" and (parsed.index or 0) >= torch.cuda.device_count():
        raise OptionInvalid(f"device={device!r}: torch sees {torch.cuda.device_count()} CUDA devices; use 'cpu'.")
    return parsed


def parse_precision(precision: str, device: torch.device) -> torch.dtype:
    """ "auto" is float32 on a CPU, where half precision often costs time, and float16 elsewhere."""
    if precision == "auto":
        return torch.float32 if device.type == "cpu" else torch.float16
    if precision not in PRECISIONS:
        raise OptionInvalid(f"precision={precision!r} is not known; use 'auto', {', '.join(map(repr, PRECISIONS))}.")
    return PRECISIONS[precision]


@dataclass(frozen=True)
class Machine:
    """What a model runs on.   device: as torch names it, "cpu", "cuda:1".   precision: a name of PRECISIONS."""

    device: str = "cpu"
    precision: str = "fp32"

    @classmethod
    def of(cls, device: torch.device, precision: torch.dtype) -> Machine:
        return cls(str(device), next(name for name, dtype in PRECISIONS.items() if dtype is precision))
