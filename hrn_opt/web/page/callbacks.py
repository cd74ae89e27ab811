"""What happens when somebody does something on the page; the widgets are in widgets.py."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from PIL import Image

from hrn_opt.errors import (
    HrnOptError,
    OptionInvalid,
    PhotoEmpty,
    PhotoFormatUnsupported,
    PhotoMissing,
    PhotoTooCostly,
    PhotoUnreadable,
    Stopped,
)
from hrn_opt.output.outlines import outlines
from hrn_opt.serving.jobs import (
    Event,
    FaceMade,
    FacesFound,
    FacesMade,
    FindJob,
    Loading,
    MakeJob,
    ModelChoice,
    StageDone,
    Waiting,
    Writing,
)
from hrn_opt.serving.models import Models
from hrn_opt.web.page.progress import Ticker, costs_html, idle, refused
from hrn_opt.web.page.updates import DOWNLOADS, SAME, FacesUpdate, ResultUpdate, RunUpdate, buttons
from hrn_opt.web.runs import Runs, asker_of
from hrn_opt.web.sessions import Sessions
from hrn_opt.web.settings import ServingSettings
from hrn_opt.web.watch.logs import FIELDS
from hrn_opt.web.words import language_of, say, say_advice, say_error

log = logging.getLogger("hrn_opt.page")

ALL_FACES = "all"
FIRST_FACE = "1"
UNREADABLE = (PhotoEmpty, PhotoFormatUnsupported, PhotoTooCostly, PhotoUnreadable)


@dataclass(frozen=True)
class Callbacks:
    runs: Runs
    models: Models
    sessions: Sessions
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
        try:
            photo = self._tracked(photo_path, request)
            folder = self.sessions.new_folder(_session(request), _visitor(request))
            job = FindJob(photo, folder, ModelChoice(model, precision))
            async with aclosing(self.runs.run(job, asker_of(request))) as events:
                async for event in events:
                    if isinstance(event, FacesFound):
                        found = event
        except HrnOptError as error:
            photo_box = None if isinstance(error, UNREADABLE) else SAME
            yield _no_faces()._replace(progress=refused(say_error(language, error)), photo=photo_box)
            return
        outlined = await asyncio.to_thread(_outlined, found)
        key = "found_one" if len(found.boxes) == 1 else "found_many"
        yield _faces(outlined, found, language)._replace(progress=idle(language, key, count=len(found.boxes)))

    async def create(
        self,
        photo_path: str | None,
        texture_size: int,
        want: str,
        face: str,
        model: str,
        precision: str,
        request: gr.Request,
    ) -> AsyncIterator[RunUpdate]:
        """Progress as it happens, then the files, and all of it for `show`."""
        language = language_of(request.headers)
        asker = asker_of(request)
        ticker = Ticker(language, asker.run_id)
        run = self.sessions.begin(_session(request), _visitor(request))
        try:
            if photo_path is None:
                yield _ended(refused(say(language, "no_photo")))
                return
            yield _begun(ticker.working(say(language, "working")))
            photo = self._tracked(photo_path, request)
            choice = ModelChoice(model, precision)
            job = MakeJob(photo, run.folder, choice, _index(face), want, texture_size)
            async with aclosing(self.runs.run(job, asker, run.stop)) as events:
                async for event in events:
                    if isinstance(event, FacesMade):
                        made = event
                    else:
                        yield RunUpdate(_progress(event, ticker))
            yield _finished(_done(made, ticker), made)
        except Stopped as error:
            # Not by Cancel, which ends this generator: by the visitor's leaving.
            yield _ended(ticker.ended(say(language, "stopped")))
            raise _failure(say(language, "stopped")) from error
        except HrnOptError as error:
            yield _ended(ticker.ended(say_error(language, error), failed=True))
            raise _failure(say_error(language, error)) from error
        except Exception as error:
            log.exception("A photo failed", extra={FIELDS: {"run_id": asker.run_id}})
            yield _ended(ticker.ended(say(language, "broken"), failed=True))
            raise _failure(say(language, "broken")) from error
        finally:
            run.stop.set()

    def show(self, made: FacesMade | None, shown_face: str, surface: str, request: gr.Request) -> ResultUpdate:
        """Every view of one face, and its downloads."""
        if made is None:
            return ResultUpdate(scene=None, texture=None, compare=None, costs="")
        count = len(made.faces)
        number = min(int(shown_face), count)
        face = made.faces[number - 1]
        files, language = face.files, language_of(request.headers)
        maps = _maps(face, language)
        scene = files.clay if surface == "clay" else files.scene
        pair = None if face.before is None else (str(face.before), str(face.after))
        numbers = [str(one) for one in range(1, count + 1)]
        return ResultUpdate(
            shown_face=gr.Radio(numbers, value=str(number), visible=count > 1),
            scene=_path(scene),
            texture=_path(files.texture),
            compare=pair,
            costs=costs_html(language, face.costs),
            tab_maps=gr.Tab(visible=bool(maps)),
            maps=maps,
            tab_turntable=gr.Tab(visible=files.turntable is not None),
            turntable=_path(files.turntable),
            get_texture=_offer(files.texture),
            get_scene=_offer(files.scene),
            get_obj=_offer(files.obj_zip),
            get_everything=_offer(made.everything),
        )

    def pick(self, found: FacesFound | None, click: gr.SelectData) -> Any:
        """The face that was clicked on; the smallest box there is the most likely meant."""
        if found is None:
            return SAME
        x, y = (place / found.scale for place in click.index)
        hit = [
            (box.area, number)
            for number, box in enumerate(found.boxes, 1)
            if box.left <= x <= box.right and box.top <= y <= box.bottom
        ]
        return str(min(hit)[1]) if hit else SAME

    def outline(self, found: FacesFound | None, face: str) -> Any:
        """The photo again, the chosen face's box in colour."""
        if found is None or not found.picture.exists():  # the visitor has been away for long
            return SAME
        return _outlined(found, None if face == ALL_FACES else int(face) - 1)

    def leave(self, request: gr.Request) -> None:
        self.sessions.end(_session(request))

    def _tracked(self, photo_path: str, request: gr.Request) -> Path:
        """The upload, which from now on goes with the session. Raises PhotoMissing for a file that is none."""
        photo = Path(photo_path)
        if not self.sessions.holds(photo):  # Gradio takes whatever path an input names
            raise PhotoMissing("The photo is not here; upload it again.", photo=photo.name, reason="none")
        self.sessions.track_upload(_session(request), photo)
        return photo


def _visitor(request: gr.Request) -> str:
    return asker_of(request).caller.visitor


def _session(request: gr.Request) -> str:
    return request.session_hash or ""


def _outlined(found: FacesFound, chosen: int | None = None) -> str:
    """The file of the picture with its boxes; it goes with the visitor: Gradio would keep a copy for longer."""
    name = "outlined.jpg" if chosen is None else f"outlined-{chosen + 1}.jpg"
    path = found.picture.with_name(name)
    with Image.open(found.picture) as picture:
        drawn = outlines(np.asarray(picture), found.boxes, found.scale, chosen)
    Image.fromarray(drawn).save(path, quality=90)
    return str(path)


def _progress(event: Event, ticker: Ticker) -> str:
    """HTML of what goes on."""
    language = ticker.language
    if isinstance(event, StageDone):
        ticker.add(event)
        if event.count > 1:
            return ticker.working(say(language, "working_on", number=event.number, count=event.count))
    elif isinstance(event, Waiting):
        key = "waiting_model" if event.loading and event.position == 1 else "waiting"
        return ticker.working(say(language, key, position=event.position))
    elif isinstance(event, Loading):
        return ticker.working(say(language, "loading"))
    elif isinstance(event, Writing):
        return ticker.working(say(language, "writing"))
    return ticker.working(say(language, "working"))


def _done(made: FacesMade, ticker: Ticker) -> str:
    """HTML of how long it took, and of what could be better."""
    language = ticker.language
    seconds = sum(face.seconds for face in made.faces)
    hints = dict.fromkeys(say_advice(language, advice) for face in made.faces for advice in face.advice)
    if made.refusals:
        why = say_error(language, made.refusals[0])
        hints[say(language, "left_out", count=len(made.refusals), why=why)] = None
    return ticker.ended(say(language, "done", seconds=f"{seconds:.2f}"), advice=tuple(hints))


def _maps(face: FaceMade, language: str) -> list[tuple[str, str]]:
    """Picture and name, as a gallery wants them."""
    paths = {"map_normal": face.files.normal, "map_displacement": face.displacement_view}
    return [(str(path), say(language, key)) for key, path in paths.items() if path is not None]


def _faces(outlined: str, found: FacesFound, language: str) -> FacesUpdate:
    count = len(found.boxes)
    choices = [(str(number), str(number)) for number in range(1, count + 1)]
    choices.append((say(language, "all_faces"), ALL_FACES))
    face = gr.Radio(choices, value=FIRST_FACE, visible=count > 1)
    return FacesUpdate(outlined=gr.Image(outlined, visible=True), face=face, found=found)


def _no_faces() -> FacesUpdate:
    face = gr.Radio(value=FIRST_FACE, visible=False)
    return FacesUpdate(outlined=gr.Image(None, visible=False), face=face, found=None)


def _index(face: str) -> int | None:
    """Of the one face that was asked for; None for all."""
    if face == ALL_FACES:
        return None
    if not (face.isascii() and face.isdigit() and int(face) > 0):
        raise OptionInvalid(f"face={face!r} is not known; use '1' for the largest, '2' …, or '{ALL_FACES}'.")
    return int(face) - 1


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


def _finished(progress: str, made: FacesMade) -> RunUpdate:
    files = made.faces[0].files
    return RunUpdate(
        progress,
        **buttons(running=False),
        get_texture=_path(files.texture),
        get_scene=_path(files.scene),
        get_obj=_path(files.obj_zip),
        get_everything=_path(made.everything),
        made=made,
    )
