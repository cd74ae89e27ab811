"""What happens when somebody does something on the page; the widgets are in widgets.py."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from PIL import Image

from hrn_opt.errors import (
    FaceUnusable,
    HrnOptError,
    OptionInvalid,
    PhotoEmpty,
    PhotoFormatUnsupported,
    PhotoUnreadable,
    Stopped,
)
from hrn_opt.loading import BUILTIN
from hrn_opt.output.views import outlines
from hrn_opt.serving.models import ModelChoice, Models
from hrn_opt.serving.worker import Loading, Waiting, Worker
from hrn_opt.types import Face, Photo, Reconstruction, StageEvent
from hrn_opt.web.photos import OpenPhotos
from hrn_opt.web.progress import Ticker, costs_html, idle, refused
from hrn_opt.web.results import write_result
from hrn_opt.web.runs import FaceResults, Job, LinkedStop, RunResult
from hrn_opt.web.sessions import Run, Sessions
from hrn_opt.web.settings import ServingSettings
from hrn_opt.web.updates import DOWNLOADS, SAME, FacesUpdate, ResultUpdate, RunUpdate, buttons
from hrn_opt.web.words import language_of, say, say_error

log = logging.getLogger("hrn_opt.page")

ALL_FACES = "all"
FIRST_FACE = "1"
UNREADABLE = (PhotoEmpty, PhotoFormatUnsupported, PhotoUnreadable)


@dataclass(frozen=True)
class DetectedFaces:
    """The faces of one photo, as one model counts them.

    scale: picture shown / photo.
    """

    photo_path: str
    choice: ModelChoice
    faces: tuple[Face, ...]
    scale: float


@dataclass(frozen=True)
class Callbacks:
    worker: Worker
    models: Models
    sessions: Sessions
    photos: OpenPhotos
    settings: ServingSettings

    async def find(
        self, photo_path: str | None, model: str, precision: str, request: gr.Request
    ) -> AsyncIterator[FacesUpdate]:
        """What was found in the photo.

        A photo that cannot be read goes from its box, where a browser would show a broken picture; why, stays.
        """
        language = language_of(request.headers)
        if photo_path is None:
            yield _no_faces()
            return
        yield FacesUpdate(idle(language, "looking"))
        choice = self._choice(model, precision)
        try:
            photo = await self._open(photo_path, request)
            faces = await self.worker.find(photo, choice)
        except HrnOptError as error:
            photo_box = None if isinstance(error, UNREADABLE) else SAME
            yield _no_faces()._replace(progress=refused(say_error(language, error)), photo=photo_box)
            return
        picture = await asyncio.to_thread(outlines, photo, faces)
        found = DetectedFaces(photo_path, choice, faces, picture.shape[1] / photo.size_hw[1])
        outlined = await asyncio.to_thread(self._kept, picture, request)
        key = "found_one" if len(faces) == 1 else "found_many"
        yield _faces(outlined, found, language)._replace(progress=idle(language, key, count=len(faces)))

    async def create(
        self,
        photo_path: str | None,
        texture_size: int,
        want: str,
        face: str,
        model: str,
        precision: str,
        found: DetectedFaces | None,
        request: gr.Request,
    ) -> AsyncIterator[RunUpdate]:
        """Progress as it happens, then the files, and all of it for `show`."""
        language = language_of(request.headers)
        run = self.sessions.begin(request.session_hash or "")
        ticker = Ticker(language)
        try:
            if photo_path is None:
                yield _ended(refused(say(language, "no_photo")))
                return
            yield _begun(ticker.working(say(language, "working")))
            photo = await self._open(photo_path, request)
            choice = self._choice(model, precision)
            known = found.faces if found and (found.photo_path, found.choice) == (photo_path, choice) else None
            asked = Job(photo, choice, want, texture_size, known, language)
            done = FaceResults()
            async with aclosing(self._work(asked, face, run, ticker, done)) as notes:
                async for note in notes:
                    yield RunUpdate(note)
            made = await asyncio.to_thread(done.packed, run)
            yield _finished(done.note(ticker), made)
        except Stopped as error:
            # Not by Cancel, which ends this generator: by the visitor's leaving, or the server's end.
            yield _ended(ticker.ended(say(language, "stopped")))
            raise _failure(say(language, "stopped")) from error
        except HrnOptError as error:
            yield _ended(ticker.ended(say_error(language, error), failed=True))
            raise _failure(say_error(language, error)) from error
        except Exception as error:
            log.exception("A photo failed")
            yield _ended(ticker.ended(say(language, "broken"), failed=True))
            raise _failure(say(language, "broken")) from error
        finally:
            run.stop.set()

    async def _work(
        self, asked: Job, face: str, run: Run, ticker: Ticker, done: FaceResults
    ) -> AsyncGenerator[str, None]:
        """HTML of the progress; the results go into `done`. One face after another."""
        if face == ALL_FACES:
            faces = asked.faces or await self.worker.find(asked.photo, asked.choice, LinkedStop(run))
            asked = replace(asked, faces=faces)
            numbers = range(len(faces))
        else:
            numbers = _number(face)
        for count, number in enumerate(numbers, 1):
            many = len(numbers) > 1
            ticker.begin_next()
            note = say(asked.language, "working_on", number=count, count=len(numbers)) if many else None
            try:
                async with aclosing(self._one(asked, number, run, ticker, note)) as steps:
                    async for step in steps:
                        if isinstance(step, str):
                            yield step
                        else:
                            reconstruction = step
            except FaceUnusable as refusal:
                if not many or (count == len(numbers) and not done.results):
                    raise
                done.refusals.append(refusal)
                continue
            yield ticker.working(say(asked.language, "writing"))
            if many:
                reconstruction = replace(reconstruction, photo_name=f"{reconstruction.photo_name}-face{number + 1}")
            folder = run.folder / str(number)
            result = await asyncio.to_thread(write_result, reconstruction, folder, asked.photo, ticker.costs)
            done.results.append(result)
            done.reconstructions.append(reconstruction)

    async def _one(
        self, asked: Job, number: int, run: Run, ticker: Ticker, note: str | None
    ) -> AsyncGenerator[str | Reconstruction, None]:
        """HTML of the progress of one face, and at last its reconstruction."""
        language = asked.language
        options = {"face": number, "want": asked.want, "texture_size": asked.texture_size, "faces": asked.faces}
        async with aclosing(self.worker.stream(asked.photo, asked.choice, stop=LinkedStop(run), **options)) as events:
            async for event in events:
                if isinstance(event, StageEvent):
                    ticker.add(event)
                    yield ticker.working(note or say(language, "working"))
                    if event.reconstruction is not None:
                        yield event.reconstruction
                elif isinstance(event, Waiting):
                    key = "waiting_model" if event.loading and event.position == 1 else "waiting"
                    yield ticker.working(say(language, key, position=event.position))
                elif isinstance(event, Loading):
                    yield ticker.working(say(language, "loading"))

    def show(self, made: RunResult | None, shown_face: str, surface: str, request: gr.Request) -> ResultUpdate:
        """Every view of one face, and its downloads."""
        if made is None:
            return ResultUpdate(scene=None, texture=None, compare=None, costs="")
        count = len(made.results)
        number = min(int(shown_face), count)
        result = made.results[number - 1]
        files, language = result.files, language_of(request.headers)
        maps = result.maps(language)
        scene = files.clay if surface == "clay" else files.scene
        pair = None if result.before is None else (str(result.before), str(result.after))
        numbers = [str(one) for one in range(1, count + 1)]
        return ResultUpdate(
            shown_face=gr.Radio(numbers, value=str(number), visible=count > 1),
            scene=_path(scene),
            texture=_path(files.texture),
            compare=pair,
            costs=costs_html(language, result.costs),
            tab_maps=gr.Tab(visible=bool(maps)),
            maps=maps,
            tab_turntable=gr.Tab(visible=files.turntable is not None),
            turntable=_path(files.turntable),
            get_texture=_offer(files.texture),
            get_scene=_offer(files.scene),
            get_obj=_offer(files.obj_zip),
            get_everything=_offer(made.everything),
        )

    def pick(self, found: DetectedFaces | None, click: gr.SelectData) -> Any:
        """The face that was clicked on; the smallest box there is the most likely meant."""
        if found is None:
            return SAME
        x, y = (place / found.scale for place in click.index)
        hit = [
            (face.box.area, number)
            for number, face in enumerate(found.faces, 1)
            if face.box.left <= x <= face.box.right and face.box.top <= y <= face.box.bottom
        ]
        return str(min(hit)[1]) if hit else SAME

    async def outline(self, found: DetectedFaces | None, face: str, request: gr.Request) -> Any:
        """The photo again, the chosen face's box in colour."""
        if found is None:
            return SAME
        photo = await self._open(found.photo_path, request)
        chosen = None if face == ALL_FACES else int(face) - 1
        picture = await asyncio.to_thread(outlines, photo, found.faces, chosen)
        return await asyncio.to_thread(self._kept, picture, request)

    def leave(self, request: gr.Request) -> None:
        self.sessions.end(request.session_hash or "")
        self.photos.forget(request.session_hash or "")

    async def _open(self, photo_path: str, request: gr.Request) -> Photo:
        self.sessions.track_upload(request.session_hash or "", Path(photo_path))
        return await asyncio.to_thread(self.photos.photo, request.session_hash or "", photo_path)

    def _kept(self, picture: np.ndarray, request: gr.Request) -> str:
        """Its file, which goes with the visitor; Gradio would keep a copy of its own for longer."""
        path = self.sessions.new_folder(request.session_hash or "") / "outlined.jpg"
        Image.fromarray(picture).save(path, quality=90)
        return str(path)

    def _choice(self, model: str, precision: str) -> ModelChoice:
        """The embedded model has one precision, whatever was chosen for the other."""
        chosen = self.models.resolve(ModelChoice(model))
        return chosen if chosen.name == BUILTIN else self.models.resolve(ModelChoice(chosen.name, precision))


def _faces(outlined: str, found: DetectedFaces, language: str) -> FacesUpdate:
    count = len(found.faces)
    choices = [(str(number), str(number)) for number in range(1, count + 1)]
    choices.append((say(language, "all_faces"), ALL_FACES))
    face = gr.Radio(choices, value=FIRST_FACE, visible=count > 1)
    return FacesUpdate(outlined=gr.Image(outlined, visible=True), face=face, found=found)


def _no_faces() -> FacesUpdate:
    face = gr.Radio(value=FIRST_FACE, visible=False)
    return FacesUpdate(outlined=gr.Image(None, visible=False), face=face, found=None)


def _number(face: str) -> range:
    """The index of the one face that was asked for, as a range."""
    if not (face.isascii() and face.isdigit() and int(face) > 0):
        raise OptionInvalid(f"face={face!r} is not known; use '1' for the largest, '2' …, or '{ALL_FACES}'.")
    return range(int(face) - 1, int(face))


def _failure(sentence: str) -> gr.Error:
    """For programs; visitors read it in the note."""
    return gr.Error(escape(sentence), visible=False, print_exception=False)


def _path(path: Path | str | None) -> str | None:
    return None if path is None else str(path)


def _offer(path: Path | str | None) -> gr.DownloadButton:
    return gr.DownloadButton(value=_path(path), interactive=path is not None)


def _begun(progress: str) -> RunUpdate:
    """A run begins: the files of the one before are no longer offered."""
    return RunUpdate(progress, **buttons(running=True), **dict.fromkeys((*DOWNLOADS, "made")))


def _ended(progress: str) -> RunUpdate:
    return RunUpdate(progress, **buttons(running=False))


def _finished(progress: str, made: RunResult) -> RunUpdate:
    files = made.results[0].files
    return RunUpdate(
        progress,
        **buttons(running=False),
        get_texture=_path(files.texture),
        get_scene=_path(files.scene),
        get_obj=_path(files.obj_zip),
        get_everything=made.everything,
        made=made,
    )
