"""Which models this server has; torch comes in where one is loaded."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from hrn_opt.options import BUILTIN, HRN, PRECISION_NAMES
from hrn_opt.serving.jobs import ModelChoice
from hrn_opt.types import Photo, StageEvent, Want

if TYPE_CHECKING:
    from hrn_opt.pipeline import Detection


class Model(Protocol):
    """What a model process needs of a model."""

    def detect(self, photo: Photo) -> Detection: ...
    def stream(
        self,
        photo: Detection,
        *,
        face: int = ...,
        want: Want | str = ...,
        texture_size: int = ...,
        stop: threading.Event | None = ...,
    ) -> Iterator[StageEvent]: ...


@dataclass(frozen=True)
class ModelState:
    """One model, and whether photos can be given to it.

    key: "ready", "missing", "fetched in part", "not prepared", "without detectors" or "damaged".
    precisions: that it can be loaded in.
    """

    name: str
    key: str
    precisions: tuple[str, ...]

    @property
    def ready(self) -> bool:
        return self.key == "ready"


class ModelProvider(Protocol):
    """Where a model process gets its models from; picklable."""

    def resolve(self, choice: ModelChoice) -> ModelChoice: ...
    def load(self, choice: ModelChoice) -> Model: ...


@dataclass(frozen=True)
class Models:
    """The models of this machine.

    default: what "auto" stands for.
    warm_photo: worked through once by every model that is loaded, so that no visitor waits for what happens only once.
    device, memory, offload_folder: as for `hrn_opt.load`; HRN only.
    """

    default: str = "auto"
    warm_photo: Path | None = None
    device: str = "auto"
    memory: str | float = "auto"
    offload_folder: str | os.PathLike[str] | None = None

    def resolve(self, choice: ModelChoice) -> ModelChoice:
        """The same model under one name: nothing in it is "auto", so that it is not loaded twice.

        The embedded model has one precision, whatever was chosen for the other.
        """
        from hrn_opt.loading import best_model
        from hrn_opt.runtime import PRECISIONS, parse_device, parse_precision

        name = self.default if choice.name == "auto" else choice.name
        name = best_model() if name == "auto" else name
        if name == BUILTIN:
            return ModelChoice(name, "fp32")
        if choice.precision != "auto":
            return ModelChoice(name, choice.precision)
        dtype = parse_precision("auto", parse_device(self.device))
        return ModelChoice(name, next(key for key, value in PRECISIONS.items() if value is dtype))

    def load(self, choice: ModelChoice) -> Model:
        """The model, ready for the first photo."""
        from hrn_opt.loading import load

        places: dict[str, Any] = {"device": self.device, "memory": self.memory, "offload_folder": self.offload_folder}
        model = load(choice.name, precision=choice.precision, **({} if choice.name == BUILTIN else places))
        if self.warm_photo is not None:
            model.reconstruct(self.warm_photo)
        return model

    def states(self) -> tuple[ModelState, ...]:
        """The embedded model's and HRN's; cheap enough for every page load."""
        from hrn_opt.hrn.pack.state import pack_state

        return ModelState(BUILTIN, "ready", ("fp32",)), ModelState(HRN, pack_state().value, PRECISION_NAMES)
