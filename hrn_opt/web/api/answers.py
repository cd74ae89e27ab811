"""How POST /api/v1/faces answers: with the file itself, or with events as it goes on; the MCP tool shares parts."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from fastapi import Request
from fastapi.responses import FileResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from hrn_opt.errors import HrnOptError, Stopped
from hrn_opt.serving.jobs import Event, FaceMade, FacesMade, Loading, MakeJob, StageDone, Waiting
from hrn_opt.serving.stop import Stop
from hrn_opt.web.api.problems import problem_of
from hrn_opt.web.runs import Runs, asker_of

EVENTS = "text/event-stream"


@dataclass(frozen=True)
class Output:
    """One thing that can be asked for.

    formats: that have to be written; None for everything.
    file: which of the Downloads it is.
    want: how much work it takes.
    """

    media_type: str
    formats: tuple[str, ...] | None
    file: str
    want: str


OUTPUTS = {
    "glb": Output("model/gltf-binary", ("glb",), "scene", "mesh"),
    "png": Output("image/png", ("png",), "texture", "texture"),
    "obj": Output("application/zip", ("obj",), "obj_zip", "mesh"),
    "zip": Output("application/zip", None, "everything", "mesh"),
}


@dataclass(frozen=True)
class Asked:
    """What one request asks for.

    folder: of the photo and what is made of it.
    delete: has the folder deleted.
    """

    job: MakeJob
    folder: Path
    output: Output
    delete: Callable[[], None]

    def answer_in(self, made: FacesMade) -> Path:
        """The file that was asked for."""
        path: Path = made.everything or getattr(made.faces[0].files, self.output.file)
        return path


class _FileOnce(FileResponse):
    """A file after which something is deleted: when it has been sent, or could not be."""

    def __init__(self, path: Path, delete: Callable[[], None], **options: Any):
        super().__init__(path, filename=path.name, **options)
        self._delete = delete

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await asyncio.to_thread(self._delete)


async def with_file(request: Request, runs: Runs, asked: Asked) -> Response:
    """The file that was asked for; raises what the job raises. A client that leaves has stopped it."""
    made = await faces_made(request, runs, asked)
    headers = {"Server-Timing": _server_timing(made.faces), "Cache-Control": "no-store"}
    return _FileOnce(asked.answer_in(made), asked.delete, media_type=asked.output.media_type, headers=headers)


async def faces_made(request: Request, runs: Runs, asked: Asked) -> FacesMade:
    """How the job ended; raises what it raises. A client that leaves has stopped it."""
    async with (
        _stopped_when_gone(request) as stop,
        aclosing(runs.run(asked.job, asker_of(request), stop)) as events,
    ):
        async for event in events:
            if isinstance(event, FacesMade):
                made = event
        if stop.is_set():  # at the very end: nobody is there for the file, which would lie about
            raise Stopped("The client has left.")
    return made


async def with_events(request: Request, runs: Runs, asked: Asked) -> Response:
    """Events as it goes on; the last one says where the file is, or is the problem."""
    return StreamingResponse(_told(request, runs, asked), media_type=EVENTS, headers={"Cache-Control": "no-store"})


async def _told(request: Request, runs: Runs, asked: Asked) -> AsyncIterator[str]:
    made: FacesMade | None = None
    try:
        async with aclosing(runs.run(asked.job, asker_of(request))) as events:
            async for event in events:
                if isinstance(event, FacesMade):
                    made = event
                elif (line := _line_of(event)) is not None:
                    yield line
        if made is not None:
            asked.job.photo.unlink(missing_ok=True)
            yield _line("done", summary_of(made, asked, request))
    except HrnOptError as error:
        yield _line("problem", problem_of(error).model_dump())
    finally:
        if made is None:
            asked.delete()


def summary_of(made: FacesMade, asked: Asked, request: Request) -> dict[str, Any]:
    """What was made and where it can be fetched, for programs."""
    path = asked.answer_in(made)
    place = quote(f"{asked.folder.name}/{path.relative_to(asked.folder).as_posix()}")
    return {
        "url": f"{request.scope.get('root_path', '')}/api/v1/files/{place}",
        "media_type": asked.output.media_type,
        "faces": len(made.faces),
        "seconds": round(sum(face.seconds for face in made.faces), 3),
        "model": made.choice.name,
        "precision": made.choice.precision,
        "advice": [advice.message for face in made.faces for advice in face.advice],
    }


def _line_of(event: Event) -> str | None:
    if isinstance(event, Waiting):
        return _line("waiting", {"position": event.position, "loading": event.loading})
    if isinstance(event, Loading):
        return _line("loading", {"model": event.choice.name})
    if isinstance(event, StageDone):
        cost = event.cost
        told = {"stage": cost.stage.value, "seconds": round(cost.seconds, 4), "fraction": event.fraction}
        return _line("stage", told | {"face": event.number, "faces": event.count})
    return None


def _line(name: str, values: dict[str, Any]) -> str:
    return f"event: {name}\ndata: {json.dumps(values, ensure_ascii=False)}\n\n"


def _server_timing(faces: tuple[FaceMade, ...]) -> str:
    """Each stage's milliseconds, as browsers' tools show them."""
    return ", ".join(f"{cost.stage.value};dur={1000 * cost.seconds:.1f}" for cost in faces[0].costs)


@asynccontextmanager
async def _stopped_when_gone(request: Request) -> AsyncIterator[Stop]:
    """A flag that is raised when the client leaves."""
    stop = Stop()

    async def watch() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        stop.set()

    watcher = asyncio.create_task(watch())
    try:
        yield stop
    finally:
        watcher.cancel()
