"""The endpoint for programs: POST /api/v1/faces takes a photo and answers its face.

One request, one answer: a GLB, a PNG, or a zip; or server-sent events as it goes on, the last of which says where
the file can be fetched. The photo, and a file that was the answer itself, are deleted when the answer has been sent.
"""

from __future__ import annotations

import asyncio
import shutil
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, FastAPI, File, Form, Request, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, Response
from starlette.exceptions import HTTPException

from hrn_opt.errors import HrnOptError, NotHere, OptionInvalid
from hrn_opt.options import DEFAULT_TEXTURE_SIZE, LARGEST_TEXTURE
from hrn_opt.output.names import safe_stem
from hrn_opt.serving.jobs import MakeJob, ModelChoice
from hrn_opt.web.api import docs, problems
from hrn_opt.web.api.answers import EVENTS, OUTPUTS, Asked, Output, with_events, with_file
from hrn_opt.web.runs import Runs, asker_of
from hrn_opt.web.sessions import Sessions

_Format = Literal["glb", "png", "obj", "zip"]
_FORMATS = (
    "glb: textured mesh; png: texture; obj: OBJ, MTL and PNG in a zip; zip: everything. Left out, what Accept names, "
    "else glb."
)
_FORM: Any = {
    "max_files": 1,
    "max_fields": 16,
    "max_part_size": 1000,
}  # of fields, not of the file
FACE_PATTERN = "^(all|[1-9][0-9]{0,2})$"
SMALLEST_TEXTURE = 256  # HRN's own size; the embedded model refuses it


_BY_MEDIA_TYPE = {"model/gltf-binary": "glb", "image/png": "png", "application/zip": "zip"}
_PROBLEM = problems.Problem.model_json_schema()
_DESCRIBED: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The face as the file that was asked for; or, with Accept: text/event-stream, what happens.",
        "content": {
            **{media: {"schema": {"type": "string", "format": "binary"}} for media in _BY_MEDIA_TYPE},
            EVENTS: {"schema": {"type": "string", "description": "Events: waiting, loading, stage, done, problem."}},
        },
    },
    **{
        status: {"description": text, "content": {problems.MEDIA_TYPE: {"schema": _PROBLEM}}}
        for status, text in {
            "4XX": "The photo or an option cannot be used, or too many photos wait; detail says what to do.",
            "5XX": "The server could not do it; detail says why.",
        }.items()
    },
}


def add_to(app: FastAPI, runs: Runs, sessions: Sessions) -> None:
    """Adds the endpoint, its description and the page that shows it."""
    app.include_router(_router(runs, sessions), prefix="/api/v1")
    docs.add_to(app)
    app.add_exception_handler(HrnOptError, problems.respond_to_error)
    app.add_exception_handler(RequestValidationError, problems.respond_to_invalid)
    app.add_exception_handler(HTTPException, problems.respond_to_http)
    app.add_exception_handler(Exception, problems.respond_to_fault)


def _router(runs: Runs, sessions: Sessions) -> APIRouter:
    router = APIRouter(tags=["faces"])

    described: dict[str, Any] = {"responses": _DESCRIBED, "response_class": Response}

    @router.post("/faces", summary="A face of a photo", form_limits=_FORM, **described)
    async def make_face(
        request: Request,
        photo: Annotated[UploadFile, File(description="JPEG, PNG, WebP, HEIC, AVIF, TIFF, BMP or GIF.")],
        format: Annotated[_Format | None, Form(description=_FORMATS)] = None,
        face: Annotated[
            str, Form(pattern=FACE_PATTERN, description="Its number, 1 is the largest; or all, which needs format=zip.")
        ] = "1",
        texture_size: Annotated[int, Form(ge=SMALLEST_TEXTURE, le=LARGEST_TEXTURE)] = DEFAULT_TEXTURE_SIZE,
        turntable: Annotated[bool, Form(description="With format=zip: a rotating preview, too.")] = False,
        model: Annotated[Literal["auto", "builtin", "hrn"], Form()] = "auto",
        precision: Annotated[Literal["auto", "fp32", "bf16", "fp16"], Form(description="HRN's.")] = "auto",
    ) -> Response:
        """One photo in, its face out. Errors are problem details (RFC 9457)."""
        output = OUTPUTS[format or _accepted(request)]
        index = face_index(face, output)
        want = "turntable" if turntable and output.formats is None else output.want
        folder = sessions.new_folder(owner_of(request))
        delete = partial(sessions.drop, owner_of(request), folder)
        try:
            path = await asyncio.to_thread(_saved, photo, folder)
            choice = ModelChoice(model, precision)
            job = MakeJob(path, made_folder(folder), choice, index, want, texture_size, output.formats)
            answer = with_events if EVENTS in request.headers.get("accept", "") else with_file
            return await answer(request, runs, Asked(job, folder, output, delete))
        except BaseException:
            delete()
            raise

    @router.get("/files/{folder}/{name:path}", summary="A file that an event named", **described)
    async def get_file(request: Request, folder: str, name: str) -> Response:
        """Only for who made it, and until it is deleted."""
        path = sessions.file(owner_of(request), folder, name)
        if path is None:
            raise NotHere("This file is not here, or not any more; make it again.")
        return FileResponse(path, filename=path.name)

    return router


def owner_of(request: Request) -> str:
    """Whose folders those of the request are."""
    return f"api:{asker_of(request).caller.visitor}"


def face_index(face: str, output: Output) -> int | None:
    """None for all faces, which one file of one face cannot hold."""
    if face != "all":
        return int(face) - 1
    if output.formats is not None:
        raise OptionInvalid("face=all is possible with format=zip only; name one face, such as face=1.")
    return None


def _accepted(request: Request) -> str:
    """The format that the Accept header names first; "glb" where it names none of them."""
    for wish in request.headers.get("accept", "").split(","):
        if (media := wish.partition(";")[0].strip().lower()) in _BY_MEDIA_TYPE:
            return _BY_MEDIA_TYPE[media]
    return "glb"


def made_folder(folder: Path) -> Path:
    """A new one for what is made of the photo in the folder."""
    made = folder / "made"
    made.mkdir(mode=0o700)
    return made


def _saved(photo: UploadFile, folder: Path) -> Path:
    """The photo as a file; outputs will be named after it."""
    path = folder / safe_stem(photo.filename or "photo")
    with path.open("wb") as file:
        shutil.copyfileobj(photo.file, file)
    return path
