"""What the server decides about its processes before it starts them; no torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hrn_opt.photo import DEFAULT_LIMITS, PhotoLimits

if TYPE_CHECKING:
    from hrn_opt.serving.models import ModelProvider


@dataclass(frozen=True)
class OpenerLimits:
    """What opening one photo may cost.

    photo: what may be opened at all.
    seconds: of decoding.
    address_space_bytes: of the process that opens it. 80 megapixels in 16 bits fail cleanly at 0.9 GB and open at 1.2;
    the rest is for the decoders' own threads.
    """

    photo: PhotoLimits = DEFAULT_LIMITS
    seconds: float = 20.0
    address_space_bytes: int = 1536 << 20

    def __post_init__(self) -> None:
        if min(self.seconds, self.address_space_bytes) <= 0:
            raise ValueError(f"every limit must be above 0, got {self}")


@dataclass(frozen=True)
class ProcessSetup:
    """What a model process needs to begin; pickled on its way there.

    opener: what opening a photo may cost.
    most_models: loaded at once.
    log_memory: write memory every so many photos; 0 for never.
    begin: called first, to set up logging.
    """

    models: ModelProvider
    opener: OpenerLimits
    most_models: int = 2
    log_memory: int = 0
    begin: Callable[[], None] | None = None
