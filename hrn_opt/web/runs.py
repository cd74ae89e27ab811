"""One press of Create: what was asked for, how it is stopped, and what has come of it."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from hrn_opt.errors import FaceUnusable
from hrn_opt.output.export import safe_stem
from hrn_opt.serving.models import ModelChoice
from hrn_opt.types import Face, Photo, Reconstruction
from hrn_opt.web.progress import Ticker
from hrn_opt.web.results import Result, zip_of_all
from hrn_opt.web.sessions import Run
from hrn_opt.web.words import say, say_advice, say_error


@dataclass(frozen=True)
class RunResult:
    """What one run made.

    everything: one zip of all of it.
    """

    results: tuple[Result, ...]
    everything: str


@dataclass(frozen=True)
class Job:
    """One press of the button."""

    photo: Photo
    choice: ModelChoice
    want: str
    texture_size: int
    faces: tuple[Face, ...] | None
    language: str


class LinkedStop(threading.Event):
    """The stop flag of one step of a run: raised with the run's own, or alone when the step has ended."""

    def __init__(self, run: Run):
        super().__init__()
        self._run = run

    def is_set(self) -> bool:
        return super().is_set() or self._run.stop.is_set()


@dataclass
class FaceResults:
    """What has come of the faces so far.

    refusals: of those left out.
    """

    results: list[Result] = field(default_factory=list)
    reconstructions: list[Reconstruction] = field(default_factory=list)
    refusals: list[FaceUnusable] = field(default_factory=list)

    def packed(self, run: Run) -> RunResult:
        first = self.results[0].files
        if len(self.results) == 1:
            return RunResult(tuple(self.results), str(first.everything))
        stem = safe_stem(self.reconstructions[0].photo_name).removesuffix("-face1")
        return RunResult(tuple(self.results), str(zip_of_all(self.results, run.folder / f"{stem}.everything.zip")))

    def note(self, ticker: Ticker) -> str:
        """HTML of how long it took, and of what could be better."""
        language = ticker.language
        seconds = sum(one.seconds for one in self.reconstructions)
        hints = dict.fromkeys(say_advice(language, advice) for one in self.reconstructions for advice in one.advice)
        if self.refusals:
            why = say_error(language, self.refusals[0])
            hints[say(language, "left_out", count=len(self.refusals), why=why)] = None
        return ticker.ended(say(language, "done", seconds=f"{seconds:.2f}"), advice=tuple(hints))
