"""Photos a second that the server makes of many users', beside what its processors could make of them.

The measure is the library itself: one process a processor, each with one thread and its model loaded, from the photo's
bytes to the GLB's. Server and library take turns, so that what else the machine does meets both.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import httpx
import psutil

from benchmarks.face import PHOTO, ROOT
from benchmarks.measure import peak_rss_mb
from hrn_opt.machine import usable_cpus
from hrn_opt.options import DEFAULT_TEXTURE_SIZE

_PHOTOS_EACH = 3  # of one user, one after another


@dataclass(frozen=True)
class Crowd:
    """users: that send photos at the same time, each some of them one after another.

    photos_per_s, library_per_s: medians over the rounds.
    ratio: of the first to the second in the same round, the median; with the lowest and the highest.
    slowest_s: that anybody waited for a photo.
    peak_rss_mb: so far, of the server and its processes.
    """

    users: int
    photos_per_s: float
    library_per_s: float
    ratio: float
    ratio_low: float
    ratio_high: float
    slowest_s: float
    peak_rss_mb: float


def measure_crowds(address: str, server_pid: int, users: Sequence[int], rounds: int) -> Iterator[Crowd]:
    """A crowd for each number of users. address: of a server whose model is loaded."""
    with _library_processes() as library, httpx.Client(base_url=address, timeout=300) as client:
        photo = PHOTO.read_bytes()
        for count in users:
            served, alone, slowest_s = [], [], 0.0
            for number in range(rounds + 1):
                rate, wait_s = _served_rate(client, photo, count)
                rates = rate, _library_rate(library, count)
                if number:  # the first round warms both up
                    served.append(rates[0])
                    alone.append(rates[1])
                    slowest_s = max(slowest_s, wait_s)
            ratios = [ours / theirs for ours, theirs in zip(served, alone, strict=True)]
            yield Crowd(
                count,
                statistics.median(served),
                statistics.median(alone),
                statistics.median(ratios),
                min(ratios),
                max(ratios),
                slowest_s,
                _peak_of_family_mb(server_pid),
            )


def _served_rate(client: httpx.Client, photo: bytes, users: int) -> tuple[float, float]:
    """Photos a second, and the longest wait for one."""

    def visit(number: int) -> float:
        longest_s = 0.0
        for _ in range(_PHOTOS_EACH):
            start = time.perf_counter()
            answer = client.post("/api/v1/faces", files={"photo": (f"{number}.jpg", photo, "image/jpeg")})
            assert answer.raise_for_status().content.startswith(b"glTF")
            longest_s = max(longest_s, time.perf_counter() - start)
        return longest_s

    with ThreadPoolExecutor(users) as pool:
        start = time.perf_counter()
        waits = list(pool.map(visit, range(users)))
        return users * _PHOTOS_EACH / (time.perf_counter() - start), max(waits)


def _library_rate(library: Sequence[subprocess.Popen[str]], users: int) -> float:
    """Photos a second, when as many are shared out: more than one user's go to all processes."""
    at_work = library[:users]
    shares = [users * _PHOTOS_EACH // len(at_work)] * len(at_work)
    for number in range(users * _PHOTOS_EACH - sum(shares)):
        shares[number] += 1
    start = time.perf_counter()
    for process, share in zip(at_work, shares, strict=True):
        assert process.stdin is not None
        print(share, file=process.stdin, flush=True)
    for process in at_work:
        _heard(process)
    return sum(shares) / (time.perf_counter() - start)


@contextmanager
def _library_processes() -> Iterator[list[subprocess.Popen[str]]]:
    """One a processor, the model loaded."""
    command = [sys.executable, "-m", "benchmarks.crowds"]
    processes = [
        subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(usable_cpus())
    ]
    try:
        for process in processes:
            _heard(process)
        yield processes
    finally:
        for process in processes:
            process.communicate()  # which closes its input, at whose end it ends


def _heard(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    if not process.stdout.readline():
        raise RuntimeError("a library process has died; see why with: python -m benchmarks.crowds")


def _peak_of_family_mb(pid: int) -> float:
    family = [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
    return sum(peak_rss_mb(one) for one in family)


def _library_process() -> None:
    """Makes as many photos as each line of its input says, and tells when it has."""
    import torch

    import hrn_opt
    from hrn_opt.output.export import contents_of

    torch.set_num_threads(1)
    model, photo = hrn_opt.load("builtin"), PHOTO.read_bytes()

    def make() -> None:
        made = model.reconstruct(photo, want="mesh", texture_size=DEFAULT_TEXTURE_SIZE)
        assert contents_of(made, ("glb",), "photo")

    make()
    print("ready", flush=True)
    for line in sys.stdin:
        for _ in range(int(line)):
            make()
        print("done", flush=True)


if __name__ == "__main__":
    _library_process()
