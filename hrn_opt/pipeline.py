"""The method on one screen: find → align → shape → texture → finish.

Every front (page, command line, batch) drives `Reconstructor.stream`; every model answers the `FaceModel` protocol.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol, TypeVar

import torch

from hrn_opt.errors import FaceNotThere, NoFaceFound, OptionInvalid, Stopped
from hrn_opt.photo import open_photo
from hrn_opt.runtime import torch_threads
from hrn_opt.types import Camera, Face, Mesh, Photo, Reconstruction, Stage, StageEvent, StageTiming, UVTexture, Want

TEXTURE_SIZES = (512, 4096)  # smallest and largest texture side on request
DEFAULT_TEXTURE_SIZE = 1024

# How much of the whole is done after each stage, by its share of the time on two CPU cores.
_FRACTION_AFTER = {Stage.FIND: 0.4, Stage.ALIGN: 0.55, Stage.SHAPE: 0.65, Stage.TEXTURE: 0.95, Stage.FINISH: 1.0}

Answer = TypeVar("Answer")


class ModelShape(Protocol):
    """A face's geometry, with whatever else the model's texture stage needs."""

    mesh: Mesh
    camera: Camera


class FaceModel(Protocol):
    """What a model answers; the pipeline knows no more of it."""

    name: str
    cpu_threads: int  # that its stages run fastest on

    def find(self, photo: Photo) -> tuple[Face, ...]: ...
    def align(self, photo: Photo, face: Face) -> Any: ...
    def shape(self, aligned: Any) -> ModelShape: ...
    def texture(self, photo: Photo, shape: ModelShape, size: int) -> UVTexture: ...


class Reconstructor:
    """A loaded model and the way from a photo to a textured face."""

    def __init__(self, model: FaceModel):
        self._model = model

    @property
    def name(self) -> str:
        return self._model.name

    def find(self, photo) -> tuple[Face, ...]:
        """Every face, largest first.

        photo: a Photo, or anything `open_photo` takes. Raises NoFaceFound, or the photo's own error.
        """
        photo = open_photo(photo)
        with torch.inference_mode(), torch_threads(self._model.cpu_threads):
            faces = self._model.find(photo)
        if not faces:
            raise NoFaceFound("No face found; use a sharp, well-lit photo of a face seen from the front or half side.")
        return faces

    def stream(
        self,
        photo,
        *,
        face: int = 0,
        want: Want | str = Want.MESH,
        texture_size: int = DEFAULT_TEXTURE_SIZE,
        faces: tuple[Face, ...] | None = None,
        stop: threading.Event | None = None,
    ) -> Iterator[StageEvent]:
        """One event after each stage; the last one carries the reconstruction.

        face: which one, 0 is the largest.   want: how much work is done.   texture_size: 512 to 4096.
        faces: from an earlier `find` of this photo, to spare that stage.   stop: raises Stopped before the next stage.
        Options and the face number are checked before any work.
        """
        want, size = Want.parse(want), _checked_size(texture_size)
        photo = open_photo(photo)
        clock = _StageClock(stop, self._model.cpu_threads)
        faces = clock.run(Stage.FIND, self.find, photo) if faces is None else faces
        chosen = _chosen(faces, face)
        yield clock.event(Stage.FIND, faces=faces)
        aligned = clock.run(Stage.ALIGN, self._model.align, photo, chosen)
        yield clock.event(Stage.ALIGN)
        shape = clock.run(Stage.SHAPE, self._model.shape, aligned)
        yield clock.event(Stage.SHAPE)
        texture = clock.run(Stage.TEXTURE, self._model.texture, photo, shape, size)
        yield clock.event(Stage.TEXTURE)
        mesh = shape.mesh if want.level >= Want.MESH.level else None
        result = Reconstruction(self.name, photo.name, face, chosen, texture, shape.camera, mesh, clock.timings)
        yield clock.event(Stage.FINISH, reconstruction=result)

    def reconstruct(self, photo, **options) -> Reconstruction:
        """The last event's reconstruction; options as for `stream`."""
        *_, last = self.stream(photo, **options)
        return last.reconstruction


class _StageClock:
    """Runs stages one after another, times them, and stops between them when told to."""

    def __init__(self, stop: threading.Event | None, cpu_threads: int):
        self._stop = stop
        self._cpu_threads = cpu_threads
        self._seconds: dict[Stage, float] = {}

    @property
    def timings(self) -> tuple[StageTiming, ...]:
        return tuple(StageTiming(stage, seconds) for stage, seconds in self._seconds.items())

    def run(self, stage: Stage, work: Callable[..., Answer], *inputs) -> Answer:
        if self._stop is not None and self._stop.is_set():
            raise Stopped(f"Stopped before the {stage.value} stage.")
        start = time.perf_counter()
        with torch.inference_mode(), torch_threads(self._cpu_threads):
            answer = work(*inputs)
        self._seconds[stage] = time.perf_counter() - start
        return answer

    def event(self, stage: Stage, **extra) -> StageEvent:
        return StageEvent(stage, _FRACTION_AFTER[stage], self._seconds.get(stage, 0.0), **extra)


def _checked_size(texture_size: int) -> int:
    smallest, largest = TEXTURE_SIZES
    if type(texture_size) is not int or not smallest <= texture_size <= largest:
        raise OptionInvalid(
            f"texture_size={texture_size!r} is not possible; use a whole number, {smallest} to {largest}."
        )
    return texture_size


def _chosen(faces: tuple[Face, ...], face: int) -> Face:
    if type(face) is not int:
        raise OptionInvalid(f"face={face!r} is not possible; use a whole number, 0 for the largest.")
    if not 0 <= face < len(faces):
        many = "1 face was" if len(faces) == 1 else f"{len(faces)} faces were"
        raise FaceNotThere(f"Face {face} does not exist: {many} found, counted from 0.")
    return faces[face]
