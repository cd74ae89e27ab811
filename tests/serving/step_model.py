"""A model of our own making, which waits where a test wants it to."""

import asyncio
import threading
import time

import numpy as np
import torch

from hrn_opt.errors import Stopped
from hrn_opt.serving.models import ModelChoice
from hrn_opt.types import Box, Face, Photo, Stage, StageEvent

GIVES_UP_AFTER_S = 60  # what hangs; nothing here is a matter of speed


PHOTO = Photo(np.zeros((4, 6, 3), np.uint8))


FACE = Face(Box(0, 0, 9, 9), torch.zeros(5, 2), 0.5)


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
    """Five stages; remembers how many ran, and how many photos at once. held: each stage waits until it is let go."""

    def __init__(self, held=False, error=None):
        self.error = error
        self.stages_run = self.running = self.most_at_once = 0
        self.calls = []
        self._allowed = threading.Semaphore(0 if held else 1000)

    def let(self, stages=1000):
        self._allowed.release(stages)

    def find(self, photo):
        self.calls.append(("find", self.stages_run))
        if self.error:
            raise self.error
        return (FACE,)

    def stream(self, photo, *, stop, **options):
        self.calls.append(("stream", self.stages_run))
        self.running += 1
        self.most_at_once = max(self.most_at_once, self.running)
        try:
            for index, stage in enumerate(list(Stage)[:5]):
                if stop.is_set():
                    raise Stopped("Stopped.")
                assert self._allowed.acquire(timeout=GIVES_UP_AFTER_S)
                time.sleep(0.002)  # so that what should not be at once would meet
                self.stages_run += 1
                yield StageEvent(stage, (index + 1) / 5, 0.002)
            if self.error:
                raise self.error
        finally:
            self.running -= 1


async def until(condition):
    while not condition():
        await asyncio.sleep(0.002)


async def read(worker):
    return [event.stage async for event in worker.stream(PHOTO) if isinstance(event, StageEvent)]
