"""The log: one line a request and one a run, which name no photo, no session and no secret.

Lines are for people, or one JSON object each for programs. What comes from outside cannot break a line or pretend to
be one.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import secrets
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

from hrn_opt.web.asgi import (
    MCP,
    REQUEST_ID,
    USER,
    VISITOR,
    App,
    Message,
    Receive,
    Scope,
    Send,
    cleaned,
    client_address,
    local_path,
)

_request_log = logging.getLogger("hrn_opt.request")
_run_log = logging.getLogger("hrn_opt.run")
FIELDS = "hrn_opt_fields"  # of a log record, by `extra`: names and values
_MOST_CHARACTERS = 4000  # of a message; of a traceback ten times as many
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_CLIENT_LEFT = 499  # nginx's number for a client that left before the answer
# How a request's path stands in the log, without what varies; other paths, which anybody may make up, are "other".
_ROUTES = tuple(
    (re.compile(pattern, re.DOTALL), route)
    for pattern, route in (
        (r"/gradio_api/file[=/].*", "/gradio_api/file={path}"),
        (r"/gradio_api/heartbeat/[^/]*", "/gradio_api/heartbeat/{session}"),
        (r"/gradio_api/call/[^/]+", "/gradio_api/call/{name}"),
        (r"/gradio_api/call/[^/]+/[^/]+", "/gradio_api/call/{name}/{event}"),
        (r"/assets/.*", "/assets/{file}"),
        (r"/static/.*", "/static/{file}"),
        (r"/api/v1/files/.*", "/api/v1/files/{file}"),
    )
)
_WHOLE_ROUTES = frozenset(
    (
        *("/", "/config", "/theme.css", "/favicon.ico", "/robots.txt", "/manifest.json", "/signin", "/signout"),
        *("/healthz", "/readyz", "/version", "/metrics"),
        *("/api/v1/faces", MCP, "/api/v1/docs", "/api/v1/openapi.json"),
        *(
            f"/gradio_api/{name}"
            for name in (
                "info",
                "upload",
                "upload_progress",
                "run/predict",
                "queue/join",
                "queue/data",
                "cancel",
                "reset",
            )
        ),
    )
)
# Supervisors ask for the first all the time, and a page needs a hundred of the others: at debug level.
_FREQUENT = ("/healthz", "/readyz", "/assets/{file}", "/static/{file}", "/theme.css")
# What lies below the served folder is named after photos; the folder itself is made by tempfile with this prefix.
_BELOW_SERVED = re.compile(r"(hrn_opt_[A-Za-z0-9_]+[/\\])[^'\"\n]*")
_SALT = secrets.token_bytes(16)  # so that addresses cannot be looked up from their hashes


def set_up_logging(level: str = "info", as_json: bool = False) -> None:
    """Sends this program's log to standard error. level: debug, info, warning or error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if as_json else TextLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in ("uvicorn", "uvicorn.error"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
    logging.getLogger("uvicorn.access").disabled = True  # RequestLog's lines stand for its own
    for name in ("httpx", "httpcore", "PIL", "multipart", "python_multipart", "asyncio"):
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))  # they name files and addresses


class TextLines(logging.Formatter):
    """Time, level, logger, message, then name=value; each further line of a traceback begins with a bar."""

    def format(self, record: logging.LogRecord) -> str:
        fields = "".join(f" {name}={_value(value)}" for name, value in _fields(record).items())
        line = f"{_time(record)} {record.levelname} {record.name}: {_message(record)}{fields}"
        told = "".join(f"\n  | {cleaned(part, _MOST_CHARACTERS)}" for part in _traceback(self, record).splitlines())
        return line + told


class JsonLines(logging.Formatter):
    """One JSON object a line, in ASCII: time, level, logger, message, fields, traceback."""

    def format(self, record: logging.LogRecord) -> str:
        content: dict[str, object] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _message(record),
            **_fields(record),
        }
        if told := _traceback(self, record):
            content["traceback"] = told
        return json.dumps(content, default=str)


class RequestLog:
    """The outermost layer: gives every request an id, and writes a line when its answer has ended.

    The id goes into scope["hrn_opt.request_id"] and the header X-Request-ID. A stream, such as a tab's heartbeat, has
    its line when it closes.

    observe: called then, with the method, the route, the status and the seconds.
    """

    def __init__(self, app: App, observe: Callable[[str, str, int, float], None] = lambda *_: None):
        self._app = app
        self._observe = observe

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope[REQUEST_ID] = request_id = secrets.token_hex(8)
        status, sent_bytes, begun_s = _CLIENT_LEFT, 0, time.monotonic()

        async def sending(message: Message) -> None:
            nonlocal status, sent_bytes
            if message["type"] == "http.response.start":
                status = message["status"]
                others = [pair for pair in message.get("headers", ()) if pair[0].lower() != b"x-request-id"]
                message = {**message, "headers": [*others, (b"x-request-id", request_id.encode())]}
            elif message["type"] == "http.response.body":
                sent_bytes += len(message.get("body", b""))
            await send(message)

        try:
            await self._app(scope, receive, sending)
        except Exception:
            status = 500 if status == _CLIENT_LEFT else status
            raise
        finally:
            self._ended(scope, status, time.monotonic() - begun_s, sent_bytes)

    def _ended(self, scope: Scope, status: int, seconds: float, sent_bytes: int) -> None:
        method = scope["method"] if scope["method"] in _METHODS else "other"
        route, visitor = route_of(local_path(scope)), str(scope.get(VISITOR, ""))
        self._observe(method, route, status, seconds)
        fields = {
            "request_id": scope[REQUEST_ID],
            "method": method,
            "route": route,
            "status": status,
            "seconds": round(seconds, 3),
            "sent_bytes": sent_bytes,
            "address": client_address(scope),
            "user": scope.get(USER) or (visitor if visitor.startswith("token:") else None),
        }
        level = logging.DEBUG if route in _FREQUENT and status < 400 else logging.INFO
        _request_log.log(level, "request", extra={FIELDS: fields})


@dataclass(frozen=True)
class RunRecord:
    """What is told of one run.

    run_id: random; the same as in other lines on the run.
    visitor: as in scope["hrn_opt.visitor"]; only a short hash is written.
    texture_size_px: of a side.
    faces: how many were made.
    outcome: "done", "refused", "stopped", "failed".
    refusal: the error's class; "" without one.
    """

    run_id: str
    visitor: str
    model: str
    want: str
    texture_size_px: int
    faces: int
    seconds: float
    outcome: str
    refusal: str = ""


def log_run(record: RunRecord) -> None:
    """Writes one line on a run that has ended."""
    fields = {**asdict(record), "visitor": visitor_hash(record.visitor), "seconds": round(record.seconds, 3)}
    _run_log.info("run", extra={FIELDS: fields})


def visitor_hash(visitor: str) -> str:
    """The same short text for one visitor until the server starts anew, from which nobody finds the visitor."""
    return hashlib.blake2b(visitor.encode("utf-8", "replace"), digest_size=4, key=_SALT).hexdigest()


def route_of(path: str) -> str:
    """The path without what varies or is private: "/gradio_api/file={path}"; "other" for one that is not served.

    path: as of `asgi.local_path`. For labels of metrics, too: there are few.
    """
    path = path.rstrip("/") or "/"
    if path in _WHOLE_ROUTES:
        return path
    for pattern, route in _ROUTES:
        if found := pattern.fullmatch(path):
            return found.expand(route)
    return "other"


def _fields(record: logging.LogRecord) -> Mapping[str, object]:
    fields: Mapping[str, object] = getattr(record, FIELDS, {})
    return {
        name: cleaned(value, _MOST_CHARACTERS) if isinstance(value, str) else value
        for name, value in fields.items()
        if value not in (None, "")
    }


def _value(value: object) -> str:
    """In quotes where it is not one plain word."""
    text = str(value)
    return text if re.fullmatch(r"[^\s\"=]+", text) else json.dumps(text)


def _message(record: logging.LogRecord) -> str:
    return cleaned(_BELOW_SERVED.sub(r"\1…", record.getMessage()), _MOST_CHARACTERS)


def _traceback(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    told = formatter.formatException(record.exc_info) if record.exc_info and record.exc_info[0] else ""
    if record.stack_info:
        told = f"{told}\n{record.stack_info}".strip()
    return _BELOW_SERVED.sub(r"\1…", told)[: 10 * _MOST_CHARACTERS]


def _time(record: logging.LogRecord) -> str:
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{whole}.{int(record.msecs):03d}Z"
