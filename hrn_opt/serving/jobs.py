"""What the server asks of a model process, and what that answers: plain values, pickled on their way; no torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

from hrn_opt.errors import FaceUnusable
from hrn_opt.options import DEFAULT_TEXTURE_SIZE
from hrn_opt.types import Advice, Box, Stage


@dataclass(frozen=True)
class ModelChoice:
    """name: "auto", "builtin", "hrn" or a pack's folder.
    precision: "auto", "fp32", "bf16" or "fp16".
    """

    name: str = "auto"
    precision: str = "auto"


@dataclass(frozen=True)
class FindJob:
    """Which faces there are.

    photo: its file.
    folder: an existing one, where the picture of the photo goes.
    """

    photo: Path
    folder: Path
    choice: ModelChoice = ModelChoice()


@dataclass(frozen=True)
class MakeJob:
    """One face of a photo, or all of them, as files.

    photo: its file; outputs are named after it.
    folder: an existing one, where the files go.
    face: its index, 0 is the largest; None for all.
    formats: as `output.export` names them; None for everything that the page shows and offers.
    """

    photo: Path
    folder: Path
    choice: ModelChoice = ModelChoice()
    face: int | None = 0
    want: str = "mesh"
    texture_size: int = DEFAULT_TEXTURE_SIZE
    formats: tuple[str, ...] | None = None


Job = FindJob | MakeJob


@dataclass(frozen=True)
class Waiting:
    """Others are served first.

    position: 1 is next.
    loading: because a model is being loaded.
    """

    position: int
    loading: bool = False


@dataclass(frozen=True)
class Loading:
    """The job's turn has come, and its model is being loaded."""

    choice: ModelChoice


@dataclass(frozen=True)
class StageCost:
    """One stage that has ended.

    resident_bytes: what the process holds after it.
    device_bytes: what of the GPU's memory torch holds then; 0 on a CPU.
    """

    stage: Stage
    seconds: float
    resident_bytes: int
    device_bytes: int = 0


@dataclass(frozen=True)
class StageDone:
    """A stage of one face has ended.

    fraction: 0..1, how much of this face is done.
    number, count: which face it is of how many, from 1.
    """

    cost: StageCost
    fraction: float
    number: int = 1
    count: int = 1


@dataclass(frozen=True)
class Writing:
    """The face is made; its files are being written."""


@dataclass(frozen=True)
class FacesFound:
    """boxes: in photo pixels, largest first.

    picture: a JPEG of the photo, no larger than a screen.
    scale: picture / photo.
    """

    boxes: tuple[Box, ...]
    picture: Path
    scale: float


@dataclass(frozen=True)
class Downloads:
    """The files of one face that a visitor takes home. None: what was not asked for, or the model does not make.

    texture: PNG.
    everything: a zip of all the other files.
    scene: GLB with the texture inside, unlit.
    clay: GLB, grey, lit.
    obj_zip: OBJ, MTL and their PNG.
    overlay: JPEG of the mesh over the photo.
    normal: PNG.
    displacement: 16-bit PNG.
    lit: GLB with the normal map.
    dense: GLB of the displaced surface, with detail.
    turntable: animated WebP.
    """

    texture: Path | None = None
    everything: Path | None = None
    scene: Path | None = None
    clay: Path | None = None
    obj_zip: Path | None = None
    overlay: Path | None = None
    normal: Path | None = None
    displacement: Path | None = None
    lit: Path | None = None
    dense: Path | None = None
    turntable: Path | None = None

    def __iter__(self) -> Iterator[Path]:
        """The files that there are."""
        values = (getattr(self, field.name) for field in fields(self))
        return (path for path in values if path is not None)


@dataclass(frozen=True)
class FaceMade:
    """One face's files.

    number: as found, from 1.
    before, after: JPEGs of the face in the photo, and of the mesh laid over it.
    displacement_view: PNG that people can see.
    """

    number: int
    files: Downloads
    costs: tuple[StageCost, ...] = ()
    advice: tuple[Advice, ...] = ()
    before: Path | None = None
    after: Path | None = None
    displacement_view: Path | None = None

    @property
    def seconds(self) -> float:
        return sum(cost.seconds for cost in self.costs)


@dataclass(frozen=True)
class FacesMade:
    """What came of a MakeJob.

    refusals: of the faces left out, where others could be made.
    everything: one zip of all faces' files; None where formats were named.
    choice: the model that made them; nothing in it is "auto".
    """

    faces: tuple[FaceMade, ...]
    refusals: tuple[FaceUnusable, ...]
    everything: Path | None
    choice: ModelChoice


Outcome = FacesFound | FacesMade
Event = Waiting | Loading | StageDone | Writing | FacesFound | FacesMade
