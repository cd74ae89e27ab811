"""How the machine is used: device, precision, threads."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from hrn_opt.errors import OptionInvalid
from hrn_opt.machine import has_fast_bf16, usable_cpus
from hrn_opt.options import PRECISION_NAMES

PRECISIONS = dict(zip(PRECISION_NAMES, (torch.float32, torch.bfloat16, torch.float16), strict=True))

_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8  # glibc's malloc.h
_LARGEST_INT = 2**31 - 1
WARM_UP_CALLS = 3  # before a recording: what CUDA sets up on first use must not fall into it


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Torch's CPU operators use `count` threads inside, as many as before outside; for the calling thread only."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def use_usable_cpus() -> None:
    """Torch computes on as many threads as its container lets compute at once; on fewer, where OMP_NUM_THREADS says so.

    For programs, at their start: the setting holds for every thread that is started later.
    """
    torch.set_num_threads(min(torch.get_num_threads(), usable_cpus()))


def keep_freed_memory() -> None:
    """Lets glibc reuse the memory of freed tensors instead of giving it back to the system after each layer.

    Activations of 67 MB and more are mapped afresh each time otherwise, and every page of them is cleared: a fifth of
    HRN's time on a CPU. For programs, at their start: the setting holds for the whole process. Nothing elsewhere than
    on glibc.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 1)  # else every thread keeps its own
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, _LARGEST_INT)


def run_repeatedly(step: Callable[[], None], times: int, device: torch.device) -> None:
    """Calls `step`, which changes the same tensors of `device` in place each time, `times` times.

    On CUDA the kernels of one call are recorded as a graph and replayed: launching small ones takes longer than they
    run.
    """
    if device.type != "cuda" or times <= WARM_UP_CALLS:
        for _ in range(times):
            step()
        return
    stream = torch.cuda.Stream(device)  # recording needs a stream of its own
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP_CALLS):
            step()
        again = _recorded(step)
        for _ in range(times - WARM_UP_CALLS):
            again()
    torch.cuda.current_stream(device).wait_stream(stream)


def _recorded(step: Callable[[], None]) -> Callable[[], None]:
    """What does the work of `step` again; `step` itself where its kernels cannot be recorded. Runs nothing."""
    graph = torch.cuda.CUDAGraph()
    try:
        # Not by torch.cuda.graph: it first hands all free memory back to the driver, and the next photo pays for that.
        graph.capture_begin(capture_error_mode="thread_local")
        try:
            step()
        finally:
            graph.capture_end()
    except RuntimeError:
        return step
    return graph.replay


def ran_out_of_memory(error: BaseException) -> bool:
    """Whether the error says that the machine's memory, or the device's, did not suffice."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)  # torch's allocator on a CPU


def free_unused() -> None:
    """Hands back to the driver what the device's allocator keeps for later."""
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def device_bytes() -> int:
    """What torch holds of the CUDA devices' memory; 0 when none is in use."""
    if not torch.cuda.is_initialized():
        return 0
    return sum(torch.cuda.memory_reserved(index) for index in range(torch.cuda.device_count()))


def device_memory_report() -> str:
    """Torch's own table of what each CUDA device in use holds; "" when none is."""
    if not torch.cuda.is_initialized():
        return ""
    return "\n".join(torch.cuda.memory_summary(index) for index in range(torch.cuda.device_count()))


def parse_device(device: str) -> torch.device:
    """ "auto" takes CUDA when there is one. OptionInvalid for what this machine lacks."""
    if isinstance(device, str) and device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        parsed = torch.device(device)
    except (RuntimeError, TypeError, ValueError, OverflowError):
        raise OptionInvalid(f"device={device!r} is not known; use 'auto', 'cpu', 'cuda' or 'cuda:1'.") from None
    if parsed.type == "cuda" and (parsed.index or 0) >= torch.cuda.device_count():
        raise OptionInvalid(f"device={device!r}: torch sees {torch.cuda.device_count()} CUDA devices; use 'cpu'.")
    return parsed


def parse_precision(precision: str, device: torch.device) -> torch.dtype:
    """ "auto" is float16 on CUDA, bfloat16 on a CPU that has instructions for it, and float32 on any other CPU."""
    if isinstance(precision, str) and precision == "auto":
        on_cpu = torch.bfloat16 if has_fast_bf16() else torch.float32
        return on_cpu if device.type == "cpu" else torch.float16
    if not (isinstance(precision, str) and precision in PRECISIONS):
        raise OptionInvalid(f"precision={precision!r} is not known; use 'auto', {', '.join(map(repr, PRECISIONS))}.")
    return PRECISIONS[precision]


@dataclass(frozen=True)
class DeviceInfo:
    """What a model runs on.

    device: as torch names it, "cpu", "cuda:1".
    precision: a name of PRECISIONS.
    """

    device: str = "cpu"
    precision: str = "fp32"

    @classmethod
    def of(cls, device: torch.device, precision: torch.dtype) -> DeviceInfo:
        return cls(str(device), next(name for name, dtype in PRECISIONS.items() if dtype is precision))

    def wait(self) -> None:
        """Until it has done what it was told to do; a CPU has by then."""
        if self.device != "cpu":
            torch.accelerator.synchronize(self.device)
