"""What goes between the server and a model process, over their connection."""

from __future__ import annotations

from dataclasses import dataclass

from hrn_opt.errors import HrnOptError
from hrn_opt.serving.jobs import Event, Job, Outcome


@dataclass(frozen=True)
class Do:
    """To the process: a job. number: names it from here on."""

    number: int
    job: Job


@dataclass(frozen=True)
class Halt:
    """To the process: stop this job; without a number, stop everything and end."""

    number: int | None = None


@dataclass(frozen=True)
class Ready:
    """From the process: its model is loaded."""


@dataclass(frozen=True)
class LoadFailed:
    """From the process: its model did not load; the next job tries again."""

    error: HrnOptError


@dataclass(frozen=True)
class Told:
    """From the process: something has happened on the way."""

    number: int
    event: Event


@dataclass(frozen=True)
class Finished:
    """From the process: the job is done."""

    number: int
    outcome: Outcome


@dataclass(frozen=True)
class Failed:
    """From the process: the job came to nothing."""

    number: int
    error: HrnOptError


Order = Do | Halt
Report = Ready | LoadFailed | Told | Finished | Failed
