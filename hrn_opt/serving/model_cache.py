"""The models that a process holds loaded."""

from __future__ import annotations

import gc
from collections import OrderedDict
from collections.abc import Callable

from hrn_opt.runtime import free_unused, ran_out_of_memory
from hrn_opt.serving.jobs import ModelChoice
from hrn_opt.serving.models import Model


class ModelCache:
    """The models of one thread; no other may use them.

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
