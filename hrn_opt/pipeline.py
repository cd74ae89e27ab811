"""The method on one screen: find → align → shape → detail → texture → assemble.

Every front (page, command line, batch) drives `Reconstructor.stream`; every model answers `FaceModel` (protocol.py).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import compress
from typing import Any, TypeVar, cast

import torch
from numpy.typing import ArrayLike

from hrn_opt.checks import check_each, check_flag
from hrn_opt.errors import FaceNotThere, FaceUnusable, NoFaceFound, OptionInvalid, Stopped
from hrn_opt.options import DEFAULT_TEXTURE_SIZE, LARGEST_TEXTURE, SMALLEST_TEXTURE
from hrn_opt.output.turntable import turntable
from hrn_opt.photo import PhotoSource, open_photo
from hrn_opt.photo.quality import assess_face, assess_yaw
from hrn_opt.protocol import BatchModel, FaceModel
from hrn_opt.runtime import DeviceInfo, torch_threads
from hrn_opt.types import (
    Advice,
    Face,
    Hints,
    Photo,
    Reconstruction,
    Request,
    Stage,
    StageEvent,
    StageTiming,
    Want,
)

# How much of the whole is done after each stage, by its share of the time on two CPU cores.
_FRACTION_AFTER = {
    Stage.FIND: 0.3,
    Stage.ALIGN: 0.4,
    Stage.SHAPE: 0.5,
    Stage.DETAIL: 0.8,
    Stage.TEXTURE: 0.95,
    Stage.ASSEMBLE: 1.0,
}

_OPTIONS = ("face", "want", "texture_size", "faces", "stop", "hints")  # of `stream`

Answer = TypeVar("Answer")


@dataclass(frozen=True, eq=False)
class Detection:
    """The faces that a model has found in a photo; `stream` of the same model takes it in place of the photo.

    faces: largest first.
    working: what the model's stages read, as `FaceModel.working_copy` made it.
    """

    photo: Photo
    faces: tuple[Face, ...]
    working: Any


class Reconstructor:
    """A loaded model and the way from a photo to a textured face.

    device_info: what the model runs on.
    """

    def __init__(self, model: FaceModel, device_info: DeviceInfo | None = None):
        self._model = model
        self._device_info = device_info or DeviceInfo()

    @property
    def name(self) -> str:
        return self._model.name

    @property
    def device(self) -> str:
        """As torch names it: "cpu", "cuda:1"."""
        return self._device_info.device

    @property
    def precision(self) -> str:
        """The networks' number format: "fp32", "bf16" or "fp16"."""
        return self._device_info.precision

    def find(self, photo: PhotoSource) -> tuple[Face, ...]:
        """Every face, largest first.

        photo: a Photo, or anything `open_photo` takes. Raises NoFaceFound, or the photo's own error.
        """
        return self.detect(photo).faces

    def detect(self, photo: PhotoSource) -> Detection:
        """As `find`, with what spares `stream` the same work when several faces, or one face later, are asked for."""
        photo = open_photo(photo)
        with torch.inference_mode(), torch_threads(self._model.cpu_threads):
            return self._found(photo)

    def stream(
        self,
        photo: PhotoSource | Detection,
        *,
        face: int = 0,
        want: Want | str = Want.MESH,
        texture_size: int = DEFAULT_TEXTURE_SIZE,
        faces: tuple[Face, ...] | None = None,
        stop: threading.Event | None = None,
        hints: Hints | None = None,
    ) -> Iterator[StageEvent]:
        """One event after each stage; the last one carries the reconstruction.

        photo: anything `open_photo` takes, or what `detect` gave.
        face: which one, 0 is the largest.
        want: how much work is done.
        texture_size: 512 to 4096; HRN also 256.
        faces: from an earlier `find` of this photo, to spare that stage.
        stop: raises Stopped before the next stage, or the turntable's next picture.
        hints: what is known of the face already; with its landmarks there is nothing to find. Options and the face
        number are checked before any work. Raises FaceUnusable where no likeness could come.
        """
        want, size, hints = Want.parse(want), self._checked_size(texture_size), self._checked_hints(hints)
        check_each("faces", faces, Face, error=OptionInvalid)
        check_flag("stop", stop, error=OptionInvalid)
        clock = _StageClock(stop, self._model.cpu_threads, self._device_info)
        photo = photo if isinstance(photo, Detection) else open_photo(photo)
        found = self._detected(photo, faces, hints, clock)
        one = _chosen(found.faces, face)
        yield from self._events(Request(found.photo, found.working, one, face, want, size, hints), found.faces, clock)

    def _detected(
        self, photo: Photo | Detection, faces: tuple[Face, ...] | None, hints: Hints, clock: _StageClock
    ) -> Detection:
        """The faces at the landmarks, or those that are known, or those that are found now."""
        if hints.landmarks is not None:
            faces = (self._model.face_at(hints.landmarks),)
        if isinstance(photo, Detection):
            return photo if faces is None else replace(photo, faces=faces)
        if faces is None:
            return clock.run(Stage.FIND, self._found, photo)
        return Detection(photo, faces, clock.run(Stage.ALIGN, self._model.working_copy, photo))

    def _events(self, request: Request, faces: tuple[Face, ...], clock: _StageClock) -> Iterator[StageEvent]:
        """The events of a face that was found."""
        advice = assess_face(request.photo, request.face)
        yield clock.event(Stage.FIND, faces=faces)
        aligned = clock.run(Stage.ALIGN, self._model.align, request)
        yield clock.event(Stage.ALIGN)
        shape = clock.run(Stage.SHAPE, self._model.shape, request, aligned)
        advice += assess_yaw(self._model.yaw_rad(shape))
        yield clock.event(Stage.SHAPE)
        if self._model.has_detail:
            shape = clock.run(Stage.DETAIL, self._model.detail, request, shape)
            yield clock.event(Stage.DETAIL)
        texture = clock.run(Stage.TEXTURE, self._model.texture, request, shape)
        yield clock.event(Stage.TEXTURE)
        result = clock.run(Stage.ASSEMBLE, self._assemble, clock.stop, request, shape, texture)
        result = replace(result, timings=clock.timings, advice=advice + result.advice)
        yield clock.event(Stage.ASSEMBLE, reconstruction=result)

    def reconstruct(
        self,
        photo: PhotoSource,
        *,
        landmarks: ArrayLike | None = None,
        skin_mask: ArrayLike | None = None,
        cheek_widening: float | None = None,
        **options: Any,
    ) -> Reconstruction:
        """The last event's reconstruction; options as for `stream`.

        landmarks: (68, 2), skin_mask: (224, 224), 0..255 or 0..1, cheek_widening: as `types.Hints` says, for HRN.
        """
        if unknown := options.keys() - _OPTIONS:
            raise OptionInvalid(f"{', '.join(sorted(unknown))} is no option; use {', '.join(_OPTIONS)}.")
        if not (landmarks is None and skin_mask is None and cheek_widening is None):
            options["hints"] = Hints.of(landmarks, skin_mask, cheek_widening)
        *_, last = self.stream(photo, **options)
        assert last.reconstruction is not None  # as the last event's is
        return last.reconstruction

    def reconstruct_all(
        self,
        photo: PhotoSource,
        *,
        want: Want | str = Want.MESH,
        texture_size: int = DEFAULT_TEXTURE_SIZE,
        faces: tuple[Face, ...] | None = None,
        stop: threading.Event | None = None,
        cheek_widening: float | None = None,
    ) -> tuple[Reconstruction, ...]:
        """Every face, each as `reconstruct` makes it; several at a time where the model's networks take that.

        Options as for `stream` and `reconstruct`. Networks round differently for several faces, so results equal those
        of single faces up to float32's last digits. Timings are each face's share, finding left out. Faces that
        `reconstruct` would refuse are left out; where no other is, FaceUnusable is raised.
        """
        want, size = Want.parse(want), self._checked_size(texture_size)
        check_each("faces", faces, Face, error=OptionInvalid)
        check_flag("stop", stop, error=OptionInvalid)
        hints = self._checked_hints(None if cheek_widening is None else Hints.of(cheek_widening=cheek_widening))
        photo = open_photo(photo)
        with torch.inference_mode(), torch_threads(self._model.cpu_threads):
            found = (
                Detection(photo, faces, self._model.working_copy(photo)) if faces is not None else self._found(photo)
            )
        faces = found.faces
        requests = [Request(photo, found.working, face, number, want, size, hints) for number, face in enumerate(faces)]
        step = self._model.faces_at_once
        if step == 1:
            outcomes = [_or_refusal(self._alone, request, faces, stop) for request in requests]
        else:
            starts = range(0, len(requests), step)
            outcomes = [done for start in starts for done in self._together(requests[start : start + step], stop)]
        done = tuple(outcome for outcome in outcomes if isinstance(outcome, Reconstruction))
        for refusal in outcomes:
            if isinstance(refusal, FaceUnusable) and not done:
                raise refusal
        return done

    def _found(self, photo: Photo) -> Detection:
        working = self._model.working_copy(photo)
        faces = self._model.find(working)
        if not faces:
            raise NoFaceFound("No face found; use a sharp, well-lit photo of a face seen from the front or half side.")
        return Detection(photo, faces, working)

    def _alone(self, request: Request, faces: tuple[Face, ...], stop: threading.Event | None) -> Reconstruction:
        *_, last = self._events(request, faces, _StageClock(stop, self._model.cpu_threads, self._device_info))
        assert last.reconstruction is not None, "the last event carries it"
        return last.reconstruction

    def _together(self, requests: list[Request], stop: threading.Event | None) -> list[Reconstruction | FaceUnusable]:
        """As many outcomes as requests; refusals last."""
        clock = _StageClock(stop, self._model.cpu_threads, self._device_info)
        judged = _Judged.of([_or_refusal(assess_face, request.photo, request.face) for request in requests])
        requests = judged.kept(requests)
        if not requests:
            return [*judged.refusals]
        model = cast("BatchModel", self._model)  # as it is where several faces go together
        aligned: list[Any] = clock.run(Stage.ALIGN, _each, model.align, requests)
        shapes = clock.run(Stage.SHAPE, model.shape_together, aligned)
        turned = _Judged.of([_or_refusal(assess_yaw, self._model.yaw_rad(shape)) for shape in shapes])
        requests, shapes = turned.kept(requests), turned.kept(shapes)
        if not requests:
            return [*judged.refusals, *turned.refusals]
        details = clock.run(Stage.DETAIL, model.detail_together, shapes)
        textures = clock.run(Stage.TEXTURE, _each, self._model.texture, requests, details)
        results = clock.run(Stage.ASSEMBLE, _each, partial(self._assemble, stop), requests, details, textures)
        shares = tuple(StageTiming(timing.stage, timing.seconds / len(requests)) for timing in clock.timings)
        advice = [a + b for a, b in zip(turned.kept(judged.advice), turned.advice, strict=True)]
        whole = [
            replace(one, timings=shares, advice=given + one.advice) for one, given in zip(results, advice, strict=True)
        ]
        return [*whole, *judged.refusals, *turned.refusals]

    def _assemble(self, stop: threading.Event | None, request: Request, detail: Any, texture: Any) -> Reconstruction:
        result = self._model.assemble(request, detail, texture)
        if request.want is not Want.TURNTABLE:
            return result
        assert result.mesh is not None  # as from Want.MESH on
        return replace(result, turntable=turntable(result.mesh, result.texture, stop=stop))

    def _checked_hints(self, hints: Hints | None) -> Hints:
        if hints is not None and not self._model.takes_hints:
            raise OptionInvalid(f"Landmarks, skin mask and widening are HRN's; this is the {self.name} model.")
        return hints or Hints()

    def _checked_size(self, texture_size: int) -> int:
        extra = self._model.extra_texture_sizes
        if type(texture_size) is int and (texture_size in extra or SMALLEST_TEXTURE <= texture_size <= LARGEST_TEXTURE):
            return texture_size
        choices = "".join(f"{size} or " for size in extra) + f"a whole number, {SMALLEST_TEXTURE} to {LARGEST_TEXTURE}"
        raise OptionInvalid(f"texture_size={texture_size!r} is not possible; use {choices}.")


class _StageClock:
    """Runs stages one after another, times them, and stops between them when told to."""

    def __init__(self, stop: threading.Event | None, cpu_threads: int, device_info: DeviceInfo):
        self.stop = stop
        self._cpu_threads = cpu_threads
        self._device_info = device_info
        self._seconds: dict[Stage, float] = {}

    @property
    def timings(self) -> tuple[StageTiming, ...]:
        return tuple(StageTiming(stage, seconds) for stage, seconds in self._seconds.items())

    def run(self, stage: Stage, work: Callable[..., Answer], *inputs: Any) -> Answer:
        if self.stop is not None and self.stop.is_set():
            raise Stopped(f"Stopped before the {stage.value} stage.")
        start = time.perf_counter()
        with torch.inference_mode(), torch_threads(self._cpu_threads):
            answer = work(*inputs)
        self._device_info.wait()  # else a stage's time, and a stop, would fall to the one after it
        self._seconds[stage] = self._seconds.get(stage, 0.0) + time.perf_counter() - start
        return answer

    def event(self, stage: Stage, **extra: Any) -> StageEvent:
        return StageEvent(stage, _FRACTION_AFTER[stage], self._seconds.get(stage, 0.0), **extra)


@dataclass(frozen=True)
class _Judged:
    """The assessment of each of several faces: usable or refused, with advice.

    usable: for each of them.
    advice: for each usable one.
    """

    usable: tuple[bool, ...]
    advice: tuple[tuple[Advice, ...], ...]
    refusals: list[FaceUnusable]

    @classmethod
    def of(cls, outcomes: Sequence[tuple[Advice, ...] | FaceUnusable]) -> _Judged:
        usable = tuple(not isinstance(outcome, FaceUnusable) for outcome in outcomes)
        advice = tuple(outcome for outcome in outcomes if not isinstance(outcome, FaceUnusable))
        return cls(usable, advice, [outcome for outcome in outcomes if isinstance(outcome, FaceUnusable)])

    def kept(self, values: Sequence[Answer]) -> list[Answer]:
        """The usable faces' ones."""
        return list(compress(values, self.usable))


def _or_refusal(work: Callable[..., Answer], *inputs: Any, **options: Any) -> Answer | FaceUnusable:
    """The work's answer, or the FaceUnusable that it raised."""
    try:
        return work(*inputs, **options)
    except FaceUnusable as refusal:
        return refusal


def _each(work: Callable[..., Answer], *inputs: Sequence[Any]) -> list[Answer]:
    return list(map(work, *inputs))


def _chosen(faces: tuple[Face, ...], face: int) -> Face:
    if type(face) is not int:
        raise OptionInvalid(f"face={face!r} is not possible; use a whole number, 0 for the largest.")
    if not 0 <= face < len(faces):
        many = "1 face was" if len(faces) == 1 else f"{len(faces)} faces were"
        raise FaceNotThere(f"There is no face number {face + 1}: {many} found.", number=face + 1, count=len(faces))
    return faces[face]
