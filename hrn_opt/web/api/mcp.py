"""The tool for language models: POST /api/v1/mcp speaks the Model Context Protocol and has `make_face`.

Streamable HTTP without sessions: one JSON-RPC message in, one JSON answer out, and nothing is kept between them. What
it makes goes the same way as what POST /api/v1/faces does.
"""

from __future__ import annotations

import asyncio
import base64
import json
from functools import partial
from typing import Any, Literal

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError

import hrn_opt
from hrn_opt.errors import HrnOptError
from hrn_opt.options import DEFAULT_TEXTURE_SIZE, LARGEST_TEXTURE
from hrn_opt.serving.jobs import MakeJob, ModelChoice
from hrn_opt.web.api.answers import OUTPUTS, Asked, faces_made, summary_of
from hrn_opt.web.api.faces import FACE_PATTERN, SMALLEST_TEXTURE, face_index, made_folder, owner_of
from hrn_opt.web.api.mcp_body import Body
from hrn_opt.web.api.problems import said_of
from hrn_opt.web.asgi import MCP
from hrn_opt.web.runs import Runs
from hrn_opt.web.sessions import Sessions

# The first is ours; both know links to resources, and neither has batches. Newer ones begin with this handshake, too.
_VERSIONS = ("2025-11-25", "2025-06-18")
_LARGEST_EMBEDDED_BYTES = 1_000_000  # base64 of more fills a conversation; a link does not
_PARSE_ERROR, _INVALID_REQUEST, _NO_METHOD, _INVALID_PARAMETERS = -32700, -32600, -32601, -32602
_OTHER_VERSION = -32022
_TOOL = "make_face"


class _Arguments(BaseModel):
    model_config = ConfigDict(extra="forbid", coerce_numbers_to_str=True)

    photo: str = Field(description="The picture file as base64: JPEG, PNG, WebP, HEIC, AVIF, TIFF, BMP or GIF.")
    format: Literal["glb", "png", "obj", "zip"] = Field(
        default="glb",
        description="glb: textured mesh; png: texture; obj: OBJ, MTL and PNG in a zip; zip: everything.",
    )
    face: str = Field(default="1", pattern=FACE_PATTERN, description="1 is the largest; all needs format zip.")
    texture_size: int = Field(
        default=DEFAULT_TEXTURE_SIZE, ge=SMALLEST_TEXTURE, le=LARGEST_TEXTURE, description="Pixels of a side."
    )
    model: Literal["auto", "builtin", "hrn"] = "auto"


class _Wrong(Exception):
    """What a JSON-RPC error tells.

    status: of the HTTP answer.
    """

    def __init__(self, code: int, message: str, status: int = 200, data: dict[str, Any] | None = None):
        super().__init__(message)
        self.error = {"code": code, "message": message} | ({} if data is None else {"data": data})
        self.status = status


def add_to(app: FastAPI, runs: Runs, sessions: Sessions) -> None:
    """Adds the endpoint, which OpenAPI does not describe: it describes itself, by tools/list."""
    router = APIRouter(include_in_schema=False)

    @router.post(MCP)
    async def answer(request: Request) -> Response:
        name: str | int | None = None
        with Body() as body:
            try:
                await body.receive(request)
                message = await asyncio.to_thread(_message_in, body)
                _check_version(request)
                if "id" not in message or "method" not in message:
                    return Response(status_code=202)  # a notification, or an answer to what nobody here asked
                name = _id_of(message)
                result = await _result(request, runs, sessions, message, body)
            except _Wrong as wrong:
                return _json({"jsonrpc": "2.0", "id": name, "error": wrong.error}, wrong.status)
        return _json({"jsonrpc": "2.0", "id": name, "result": result})

    @router.get(MCP)
    async def no_stream() -> Response:
        """Clients may ask for a stream of what the server has to say beside its answers: nothing."""
        return Response(status_code=405, headers={"Allow": "POST"})

    app.include_router(router)


def _json(content: dict[str, Any], status: int = 200) -> Response:
    """In ASCII, as an id or a name that is handed back may hold half a surrogate pair."""
    return Response(json.dumps(content), status, {"Cache-Control": "no-store"}, "application/json")


def _message_in(body: Body) -> dict[str, Any]:
    try:
        message = body.content()
    except ValueError:
        raise _Wrong(_PARSE_ERROR, "This is no JSON.", 400) from None
    if not isinstance(message, dict) or message.get("jsonrpc") != "2.0":
        raise _Wrong(_INVALID_REQUEST, "Send one JSON-RPC 2.0 message.", 400)
    return message


def _id_of(message: dict[str, Any]) -> str | int:
    name = message["id"]
    if isinstance(name, bool) or not isinstance(name, (str, int)):
        raise _Wrong(_INVALID_REQUEST, "An id is a text or a whole number.", 400)
    return name


def _check_version(request: Request) -> None:
    """Of a client that names one; the handshake does not."""
    asked = request.headers.get("mcp-protocol-version", _VERSIONS[0])
    if asked not in _VERSIONS:
        data = {"supported": list(_VERSIONS), "requested": asked[:64]}
        raise _Wrong(_OTHER_VERSION, "Unsupported protocol version", 400, data)


async def _result(
    request: Request, runs: Runs, sessions: Sessions, message: dict[str, Any], body: Body
) -> dict[str, Any]:
    parameters = message.get("params", {})
    if not isinstance(parameters, dict):
        raise _Wrong(_INVALID_PARAMETERS, "params has to be an object.")
    match message["method"]:
        case "initialize":
            return _greeting(parameters.get("protocolVersion"))
        case "ping":
            return {}
        case "tools/list":
            return {"tools": [_described()]}
        case "tools/call" if parameters.get("name") == _TOOL:
            try:
                return await _made(request, runs, sessions, parameters.get("arguments", {}), body)
            except ValidationError as error:
                return _failed(said_of(error.errors()))
            except HrnOptError as error:
                return _failed(str(error))
        case "tools/call":
            raise _Wrong(_INVALID_PARAMETERS, f"The only tool here is {_TOOL}.")
    raise _Wrong(_NO_METHOD, "Method not found")


def _greeting(version: object) -> dict[str, Any]:
    return {
        "protocolVersion": version if version in _VERSIONS else _VERSIONS[0],
        "capabilities": {"tools": {}},
        "serverInfo": {"name": "hrn_opt", "version": hrn_opt.__version__},
    }


def _described() -> dict[str, Any]:
    return {
        "name": _TOOL,
        "title": "Make a 3D face of a photo",
        "description": "Makes a textured 3D face of a photo of a person. Answers the file itself, or a link to it "
        "where it is over 1 MB; the link holds for a while, and for who asked alone.",
        "inputSchema": _Arguments.model_json_schema(),
        "annotations": {"readOnlyHint": True, "openWorldHint": False},
    }


async def _made(request: Request, runs: Runs, sessions: Sessions, given: object, body: Body) -> dict[str, Any]:
    """What a call answers; raises ValidationError, and what the job raises."""
    arguments = _Arguments.model_validate(given)
    output, is_linked = OUTPUTS[arguments.format], False
    index = face_index(arguments.face, output)
    folder = sessions.new_folder(owner_of(request))
    delete = partial(sessions.drop, owner_of(request), folder)
    try:
        photo = folder / "photo"  # errors name it so, and what is made is named after it
        await asyncio.to_thread(body.save_photo, arguments.photo, photo)
        choice = ModelChoice(arguments.model)
        job = MakeJob(photo, made_folder(folder), choice, index, output.want, arguments.texture_size, output.formats)
        asked = Asked(job, folder, output, delete)
        made = await faces_made(request, runs, asked)
        await asyncio.to_thread(photo.unlink, missing_ok=True)
        file, told = asked.answer_in(made), summary_of(made, asked, request)
        is_linked = file.stat().st_size > _LARGEST_EMBEDDED_BYTES
        if is_linked:
            place = {"uri": f"{request.base_url.scheme}://{request.base_url.netloc}{told['url']}", "name": file.name}
            return _succeeded(told, {"type": "resource_link", **place, "mimeType": output.media_type})
        blob = base64.b64encode(await asyncio.to_thread(file.read_bytes)).decode()
        resource = {"uri": f"hrn-opt:///{file.name}", "mimeType": output.media_type, "blob": blob}
        return _succeeded(told, {"type": "resource", "resource": resource})
    finally:
        if not is_linked:
            await asyncio.to_thread(delete)


def _succeeded(told: dict[str, Any], file: dict[str, Any]) -> dict[str, Any]:
    count, seconds = told["faces"], told["seconds"]
    text = f"Made {count} {'face' if count == 1 else 'faces'} in {seconds:.1f} s with the model {told['model']}."
    text = " ".join((text, *told["advice"]))
    return {"content": [{"type": "text", "text": text}, file]}


def _failed(sentence: str) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": sentence}], "isError": True}
