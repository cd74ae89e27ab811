"""Which models this server has, and the ones that a thread holds loaded."""

from __future__ import annotations

import gc
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from hrn_opt.loading import BUILTIN, HRN, best_model, load
from hrn_opt.runtime import PRECISIONS, free_unused, parse_device, parse_precision, ran_out_of_memory
from hrn_opt.types import Face, Hints, Photo, StageEvent, Want


class Model(Protocol):
    """What a worker needs of a model."""

    def find(self, photo: Photo) -> tuple[Face, ...]: ...
    def stream(
        self,
        photo: Photo,
        *,
        face: int = ...,
        want: Want | str = ...,
        texture_size: int = ...,
        faces: tuple[Face, ...] | None = ...,
        stop: threading.Event | None = ...,
        hints: Hints | None = ...,
    ) -> Iterator[StageEvent]: ...


@dataclass(frozen=True)
class ModelChoice:
    """name: "auto", "builtin", "hrn" or a pack's folder.
    precision: "auto", "fp32", "bf16" or "fp16".
    """

    name: str = "auto"
    precision: str = "auto"


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
    """Where a worker gets its models from."""

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
        """The same model under one name: nothing in it is "auto", so that it is not loaded twice."""
        name = self.default if choice.name == "auto" else choice.name
        name = best_model() if name == "auto" else name
        if choice.precision != "auto":
            return ModelChoice(name, choice.precision)
        if name == BUILTIN:
            return ModelChoice(name, "fp32")
        dtype = parse_precision("auto", parse_device(self.device))
        return ModelChoice(name, next(key for key, value in PRECISIONS.items() if value is dtype))

    def load(self, choice: ModelChoice) -> Model:
        """The model, ready for the first photo."""
        places: dict[str, Any] = {"device": self.device, "memory": self.memory, "offload_folder": self.offload_folder}
        model = load(choice.name, precision=choice.precision, **({} if choice.name == BUILTIN else places))
        if self.warm_photo is not None:
            model.reconstruct(self.warm_photo)
        return model

    def states(self) -> tuple[ModelState, ...]:
        """The embedded model's and HRN's; cheap enough for every page load."""
        from hrn_opt.hrn.pack.state import pack_state

        return ModelState(BUILTIN, "ready", ("fp32",)), ModelState(HRN, pack_state().value, tuple(PRECISIONS))


class ModelCache:
    """The models one thread holds; no other thread may use them.

    most: how many. The longest unused one makes room, and a model in another precision takes the first one's place.
    """

    def __init__(self, load: Callable[[ModelChoice], Model], most: int = 2):
        self._load = load
        self._most = most
        self._models: OrderedDict[ModelChoice, Model] = OrderedDict()

    def __contains__(self, choice: ModelChoice) -> bool:
        return choice in self._models

    def model(self, choice: ModelChoice) -> Model:
        """The loaded model; where memory runs out, all others go and it is tried once more."""
        if choice not in self._models:
            self._make_room(choice)
            self._models[choice] = self._loaded(choice)
        self._models.move_to_end(choice)
        return self._models[choice]

    def _make_room(self, choice: ModelChoice) -> None:
        leaving = [held for held in self._models if held.name == choice.name]
        staying = [held for held in self._models if held.name != choice.name]
        leaving += staying[: max(len(staying) - self._most + 1, 0)]
        for held in leaving:
            del self._models[held]
        if leaving:  # collecting garbage stops every thread for 0.1 s
            _give_back()

    def _loaded(self, choice: ModelChoice) -> Model:
        try:
            return self._load(choice)
        except Exception as error:
            if not (self._models and ran_out_of_memory(error)):
                raise
        # Outside the except block: the error holds on to what was loaded so far.
        self._models.clear()
        _give_back()
        return self._load(choice)


def _give_back() -> None:
    gc.collect()
    free_unused()
