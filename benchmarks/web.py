"""The web app as its users meet it: over loopback, the server in a process of its own.

The page is asked for as a browser does, photos are given through its named endpoint; what is timed includes HTTP.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx

from benchmarks.crowds import Crowd, measure_crowds
from benchmarks.face import PHOTO, ROOT
from benchmarks.measure import Timing

ENDPOINT = "create"
STARTS_WITHIN_S = 120
USERS = (1, 2, 4, 8)
SMALLEST_ANSWER = "/robots.txt"  # what it takes beyond the time of a quiet server is the event loop's lag


@dataclass(frozen=True)
class WebResult:
    """The app's times while a photo computes, but for `quiet`.

    start_s: from the command to the first page.
    lag: of the event loop; seconds that the smallest answer takes beyond those on the quiet server.
    """

    start_s: float
    quiet: Timing
    page: Timing
    lag: Timing
    first_progress: Timing
    photo: Timing
    crowds: tuple[Crowd, ...]


def measure_web(
    photos: int, tell: Callable[[str, float], None], users: tuple[int, ...] = USERS, rounds: int = 5
) -> WebResult:
    """The embedded model answers.

    photos: how many are sent one after another while the page is watched.
    rounds: of each crowd, server and library in turn.
    """
    with _server() as (address, process, start_s):
        tell("the page alone", 0.2)
        with httpx.Client(base_url=address) as client:
            quiet = Timing.of("quiet server", [_seconds_of(client, SMALLEST_ANSWER) for _ in range(30)][10:])
        visitor = _Visitor(address)
        visitor.send()  # warm-up
        progress, whole = [], []
        with _watching(address, SMALLEST_ANSWER) as answers, _watching(address, "/") as pages:
            for number in range(photos):
                tell(f"photo {number + 1} of {photos}", 0.25 + 0.35 * number / photos)
                first_s, whole_s = visitor.send()
                progress.append(first_s)
                whole.append(whole_s)
        visitor.client.close()
        crowds = []
        tell("many users at once", 0.6)
        for crowd in measure_crowds(address, process.pid, users, rounds):
            crowds.append(crowd)
            tell(f"{crowd.users} users at once", 0.6 + 0.4 * len(crowds) / len(users))
    return WebResult(
        start_s=start_s,
        quiet=quiet,
        page=Timing.of("page load", pages),
        lag=Timing.of("event loop's lag", [max(0.0, seconds - quiet.median_s) for seconds in answers]),
        first_progress=Timing.of("first progress", progress),
        photo=Timing.of("photo sent → result", whole),
        crowds=tuple(crowds),
    )


@contextmanager
def _server() -> Iterator[tuple[str, subprocess.Popen, float]]:
    """Its address, its process, and how long it took to answer."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address, start = f"http://127.0.0.1:{port}", time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(
            [sys.executable, "app.py", "--port", str(port), "--model", "builtin"],
            cwd=ROOT,
            env={**os.environ, "TMPDIR": folder},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            _wait_for(address, process, start + STARTS_WITHIN_S)
            yield address, process, time.perf_counter() - start
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_for(address: str, process: subprocess.Popen, until: float) -> None:
    while time.perf_counter() < until and process.poll() is None:
        try:
            httpx.get(address, timeout=10).raise_for_status()
            return
        except httpx.HTTPError:
            time.sleep(0.05)
    raise RuntimeError("app.py did not serve; see why with: python app.py")


def _seconds_of(client: httpx.Client, path: str) -> float:
    start = time.perf_counter()
    client.get(path).raise_for_status()
    return time.perf_counter() - start


@contextmanager
def _watching(address: str, path: str) -> Iterator[list[float]]:
    """Seconds of each answer to a request that comes again and again while the block runs."""
    seconds: list[float] = []
    ended = threading.Event()

    def watch() -> None:
        with httpx.Client(base_url=address, timeout=60) as client:
            while not ended.wait(0.05):
                seconds.append(_seconds_of(client, path))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seconds
    finally:
        ended.set()
        thread.join()


class _Visitor:
    """A client that has uploaded the photo and knows the endpoint's other parameters."""

    def __init__(self, address: str):
        self.client = httpx.Client(base_url=address, timeout=300)
        with PHOTO.open("rb") as file:
            answer = self.client.post("/gradio_api/upload", files={"files": (PHOTO.name, file, "image/jpeg")})
        upload = {"path": answer.raise_for_status().json()[0], "meta": {"_type": "gradio.FileData"}}
        documented = self.client.get("/gradio_api/info").raise_for_status().json()["named_endpoints"][f"/{ENDPOINT}"]
        self._data = [upload, *(parameter["parameter_default"] for parameter in documented["parameters"][1:])]

    def send(self) -> tuple[float, float]:
        """Seconds until the first progress, and until the result."""
        start = time.perf_counter()
        answer = self.client.post(f"/gradio_api/call/{ENDPOINT}", json={"data": self._data})
        event = answer.raise_for_status().json()["event_id"]
        first_s = None
        with self.client.stream("GET", f"/gradio_api/call/{ENDPOINT}/{event}") as stream:
            for line in stream.iter_lines():
                if line == "event: generating":
                    first_s = first_s or time.perf_counter() - start
                elif line == "event: error":
                    raise RuntimeError("the app refused the example photo; see why with: python app.py")
        if first_s is None:
            raise RuntimeError("the app sent no progress")
        return first_s, time.perf_counter() - start
