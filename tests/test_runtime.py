"""How the machine is used. CUDA is played by stand-ins: what they show is the order of calls, not that kernels run."""

import subprocess
import sys
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch

from hrn_opt import runtime
from hrn_opt.runtime import run_repeatedly, torch_threads

CUDA = torch.device("cuda:0")


class Recorder:
    """CUDA's graphs without CUDA: what is called while recording does not happen, and happens at each replay."""

    def __init__(self, *, refuses: bool = False):
        self.done, self.replays, self.recording, self.refuses = 0, 0, False, refuses

    def step(self) -> None:
        if self.recording and self.refuses:
            raise RuntimeError("operation not permitted when stream is capturing")
        self.done += not self.recording

    def capture_begin(self, capture_error_mode: str) -> None:
        self.recording = True

    def capture_end(self) -> None:
        self.recording = False

    def replay(self) -> None:
        self.done += 1
        self.replays += 1


@pytest.fixture
def on_cuda(monkeypatch):
    """Plays a Recorder as the one graph."""

    def play(recorder: Recorder) -> Recorder:
        stream = SimpleNamespace(wait_stream=lambda _other: None)
        monkeypatch.setattr(torch.cuda, "Stream", lambda _device: stream)
        monkeypatch.setattr(torch.cuda, "current_stream", lambda _device: stream)
        monkeypatch.setattr(torch.cuda, "stream", lambda _stream: nullcontext())
        monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: recorder)
        return recorder

    return play


@pytest.mark.parametrize("times", [0, 1, 3, 4, 100])
def test_steps_on_cuda_happen_as_often_as_asked(on_cuda, times):
    recorder = on_cuda(Recorder())
    run_repeatedly(recorder.step, times, CUDA)
    assert recorder.done == times and recorder.replays == max(0, times - 3)


def test_what_cannot_be_recorded_runs_as_it_is(on_cuda):
    recorder = on_cuda(Recorder(refuses=True))
    run_repeatedly(recorder.step, 100, CUDA)
    assert recorder.done == 100 and recorder.replays == 0 and not recorder.recording


def test_error_of_a_step_is_not_swallowed(on_cuda):
    on_cuda(Recorder())

    def fail() -> None:
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        run_repeatedly(fail, 100, CUDA)


def test_steps_on_a_cpu_are_called_directly():
    recorder = Recorder()
    run_repeatedly(recorder.step, 5, torch.device("cpu"))
    assert recorder.done == 5 and recorder.replays == 0


@pytest.mark.parametrize(("usable", "expected"), [(1, 1), (3, 3), (1000, 4)])
def test_threads_keep_to_what_is_usable_and_to_what_was_asked_for(monkeypatch, usable, expected):
    monkeypatch.setattr(runtime, "usable_cpus", lambda: usable)
    with torch_threads(4):  # as OMP_NUM_THREADS=4
        runtime.use_usable_cpus()
        assert torch.get_num_threads() == expected


FREE_A_TENSOR = """
import sys, threading, torch
from hrn_opt.runtime import keep_freed_memory

def resident_kb():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmRSS:"))

if sys.argv[1] == "keep":
    keep_freed_memory()

def work():
    torch.ones(1000)
    before = resident_kb()
    torch.ones(50_000_000).add_(1)
    print(resident_kb() - before)

thread = threading.Thread(target=work)
thread.start()
thread.join()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="this system's allocator is not glibc's")
def test_freed_memory_is_kept_for_the_next_tensor():
    kept, returned = (
        int(subprocess.run([sys.executable, "-c", FREE_A_TENSOR, what], capture_output=True, check=True).stdout)
        for what in ("keep", "return")
    )
    assert kept > 150_000 > 50_000 > returned  # kB, of 200,000


@pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA is not at hand")
def test_recorded_steps_compute_what_plain_ones_do():
    values = torch.zeros(1000, device="cuda")
    run_repeatedly(lambda: values.mul_(0.5).add_(1), 20, values.device)
    expected = torch.zeros(1000)
    for _ in range(20):
        expected.mul_(0.5).add_(1)
    assert torch.equal(values.cpu(), expected)
