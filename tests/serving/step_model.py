"""A model of our own making, which waits where a test wants it to, and processes that are threads here."""

import asyncio
import threading
import time
from multiprocessing import Pipe
from pathlib import Path

import numpy as np
import torch

from hrn_opt.errors import Stopped
from hrn_opt.photo import PhotoLimits
from hrn_opt.pipeline import Detection
from hrn_opt.serving import process
from hrn_opt.serving.fairness import NOBODY
from hrn_opt.serving.jobs import MakeJob, ModelChoice, StageDone
from hrn_opt.serving.messages import Halt
from hrn_opt.serving.pipes import Gone
from hrn_opt.serving.setup import OpenerLimits, ProcessSetup
from hrn_opt.types import Box, Camera, Face, Photo, Reconstruction, Stage, StageEvent, UVTexture

GIVES_UP_AFTER_S = 60  # what hangs; nothing here is a matter of speed
STAGES = list(Stage)
PHOTO = Photo(np.zeros((40, 60, 3), np.uint8))
FACE = Face(Box(0, 0, 9, 9), torch.zeros(5, 2), 0.5)
_TEXTURE = UVTexture(np.full((8, 8, 3), 90, np.uint8), np.full((8, 8), 255, np.uint8))


class Source:
    """Gives the same model whatever the choice, "auto" being "builtin"; remembers what was loaded."""

    def __init__(self, model):
        self.model, self.loaded = model, []

    def resolve(self, choice):
        return ModelChoice("builtin" if choice.name == "auto" else choice.name, choice.precision)

    def load(self, choice):
        self.loaded.append(choice)
        return self.model


class StepModel:
    """Six stages; remembers how many ran, and how many photos at once. held: each stage waits until it is let go."""

    def __init__(self, held=False, error=None, faces=1):
        self.error, self.faces = error, faces
        self.stages_run = self.running = self.most_at_once = 0
        self.calls = []
        self._allowed = threading.Semaphore(0 if held else 1000)

    def let(self, stages=1000):
        self._allowed.release(stages)

    def detect(self, photo):
        self.calls.append(("detect", self.stages_run))
        return Detection(photo, (FACE,) * self.faces, None)

    def stream(self, found, *, face, stop, **options):
        self.calls.append(("stream", self.stages_run))
        self.running += 1
        self.most_at_once = max(self.most_at_once, self.running)
        try:
            for index, stage in enumerate(STAGES, 1):
                if stop.is_set():
                    raise Stopped("Stopped.")
                assert self._allowed.acquire(timeout=GIVES_UP_AFTER_S)
                time.sleep(0.002)  # so that what should not be at once would meet
                self.stages_run += 1
                if self.error and index == len(STAGES):
                    raise self.error
                made = Reconstruction("step", found.photo.name, face, FACE, _TEXTURE, Camera(torch.eye(4)))
                yield StageEvent(stage, index / 6, 0.002, reconstruction=made if index == len(STAGES) else None)
        finally:
            self.running -= 1


class ThreadPipe:
    """A model process that is a thread, so that a test sees into its model; as ProcessPipe otherwise."""

    exit_code = -9

    def __init__(self, setup, tell):
        self._connection, other = Pipe()
        self._tell = tell
        self.pid = 0
        self._work = threading.Thread(target=self._serve, args=(other, setup), daemon=True)
        self._work.start()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def send(self, order):
        self._connection.send(order)

    def kill(self):
        """What a death looks like from here; a thread goes on for itself."""
        self._tell(Gone())

    def close(self):
        self.send(Halt())
        self._work.join(GIVES_UP_AFTER_S)
        self._reader.join(GIVES_UP_AFTER_S)

    def _serve(self, connection, setup):
        try:
            process.work(connection, setup, lambda path, stop: PHOTO)
        finally:
            connection.close()

    def _read(self):
        try:
            while True:
                self._tell(self._connection.recv())
        except (EOFError, OSError):
            self._tell(Gone())


def setup_of(source):
    return ProcessSetup(source, OpenerLimits(PhotoLimits()))


def job(folder, photo="me.jpg", **options):
    """A job with a folder of its own."""
    made = Path(folder) / f"{time.monotonic_ns()}"
    made.mkdir()
    return MakeJob(Path(photo), made, formats=("png",), **options)


async def until(condition):
    until_s = time.monotonic() + GIVES_UP_AFTER_S
    while not condition():
        assert time.monotonic() < until_s, "it does not happen"
        await asyncio.sleep(0.002)


async def read(worker, one, caller=NOBODY, stop=None):
    """The stages of a job, in their order."""
    return [event.cost.stage async for event in worker.run(one, caller, stop) if isinstance(event, StageDone)]
