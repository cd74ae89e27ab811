"""The log: a line a request and a run, which nobody can break, and which names nothing private."""

import asyncio
import json
import logging

import pytest

from hrn_opt.web.watch import logs
from hrn_opt.web.watch.logs import RequestLog, RunRecord, log_run, route_of, set_up_logging, visitor_hash
from tests.web.asking import Browser


@pytest.fixture
def lines(capsys):
    """Sets the log up and returns a function for the lines written since the last call; restores it in the end."""
    root = logging.getLogger()
    names = ("uvicorn", "uvicorn.error", "uvicorn.access", "httpx", "httpcore", "PIL", "multipart", "asyncio")
    loggers = [root, logging.getLogger("python_multipart"), *map(logging.getLogger, names)]
    before = [(one, one.level, list(one.handlers), one.propagate, one.disabled) for one in loggers]

    def written(level=None, as_json=True):
        if level:
            set_up_logging(level, as_json)
        return capsys.readouterr().err.splitlines()

    yield written
    for one, one_level, handlers, propagate, disabled in before:
        one.setLevel(one_level)
        one.handlers[:], one.propagate, one.disabled = handlers, propagate, disabled


async def page(scope, receive, send):
    scope["hrn_opt.visitor"], scope["hrn_opt.user"] = "token:ci", None
    if scope["path"] == "/boom":
        raise RuntimeError("boom")
    await send({"type": "http.response.start", "status": 200, "headers": [(b"X-Request-ID", b"theirs")]})
    await send({"type": "http.response.body", "body": b"12345", "more_body": True})
    await send({"type": "http.response.body", "body": b"67"})


def test_a_request_is_one_line_with_the_id_of_its_answer(lines):
    lines("info")
    answer = Browser(RequestLog(page)).get("/gradio_api/queue/data?session_hash=secret", x_request_id="a\nb")
    (line,) = lines()
    content = json.loads(line)
    assert content["request_id"] == answer.header("x-request-id") and len(content["request_id"]) == 16
    assert [name for name, _ in answer.headers if name.lower() == b"x-request-id"] == [b"x-request-id"]
    assert content["route"] == "/gradio_api/queue/data" and content["status"] == 200 and content["sent_bytes"] == 7
    assert content["address"] == "192.0.2.1" and content["user"] == "token:ci" and content["method"] == "GET"
    assert content["seconds"] >= 0 and content["level"] == "info" and "secret" not in line


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/", "/"),
        ("/gradio_api/file=/tmp/hrn_opt_x/abc/anna 2.jpg", "/gradio_api/file={path}"),
        ("/gradio_api/file=/tmp/a\nb", "/gradio_api/file={path}"),
        ("/gradio_api/heartbeat/s3cret", "/gradio_api/heartbeat/{session}"),
        ("/gradio_api/call/create", "/gradio_api/call/{name}"),
        ("/gradio_api/call/create/s3cret", "/gradio_api/call/{name}/{event}"),
        ("/assets/index-s3cret.js", "/assets/{file}"),
        ("/api/v1/faces", "/api/v1/faces"),
        ("/api/v1/files/s3cret/anna.glb", "/api/v1/files/{file}"),
        ("/anna.jpg", "other"),
        ("/gradio_api/s3cret", "other"),
        ("/api/v1/s3cret", "other"),
        ("/healthz/", "/healthz"),
    ],
)
def test_a_route_stands_without_what_is_private(path, route):
    assert route_of(path) == route


def test_nothing_private_reaches_the_log(lines):
    lines("debug")
    browser = Browser(RequestLog(page), root_path="/faces")
    for path in (
        "/gradio_api/file=/tmp/hrn_opt_x/abc/anna.jpg",
        "/gradio_api/heartbeat/s3cret",
        "/anna.jpg?token=s3cret",
        "/gradio_api/upload_progress?upload_id=s3cret",
    ):
        browser.get(path, authorization="Bearer s3cret", cookie="hrn_opt=s3cret", referer="http://x/anna")
    written = lines()
    assert len(written) == 4 and not any(word in "".join(written) for word in ("anna", "s3cret"))
    assert json.loads(written[0])["route"] == "/gradio_api/file={path}"


def test_health_checks_are_for_debugging(lines):
    lines("info")
    Browser(RequestLog(page)).get("/healthz")
    assert lines() == []
    lines("debug")
    Browser(RequestLog(page)).get("/healthz")
    assert len(lines()) == 1


def test_a_failure_is_a_500_and_passes_on(lines):
    lines("info")
    with pytest.raises(RuntimeError):
        Browser(RequestLog(page)).get("/boom")
    assert json.loads(lines()[0])["status"] == 500


def test_a_stream_has_its_line_at_its_end(lines):
    lines("info")
    gone = asyncio.Event()

    async def stream(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await gone.wait()

    async def live():
        asking = asyncio.create_task(Browser(RequestLog(stream)).ask("GET", "/gradio_api/heartbeat/s"))
        await asyncio.sleep(0.05)
        assert lines() == []
        gone.set()
        await asking
        assert len(lines()) == 1
        gone.clear()
        asking = asyncio.create_task(Browser(RequestLog(stream)).ask("GET", "/gradio_api/heartbeat/s"))
        await asyncio.sleep(0.05)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        assert len(lines()) == 1

    asyncio.run(live())


@pytest.mark.parametrize("as_json", [False, True])
def test_nobody_can_break_a_line(lines, as_json):
    lines("info", as_json)
    evil = "x\n2026-01-01 INFO fake\r\x1b[2J\u2028\x85\ud800"
    logging.getLogger("some").warning("got %s", evil)
    log_run(RunRecord("r", evil, evil, evil, 512, 1, 1.0, evil, evil))
    log_run(RunRecord("r", "v", "\x1b[2J\x07", "\x85", 512, 1, 1.0, "\u2028"))
    try:
        raise ValueError(evil)
    except ValueError:
        logging.getLogger("some").exception("A photo failed")
    written = lines()
    assert not any(mark in line for line in written for mark in ("\x1b", "\r", "\u2028", "\x85"))
    if as_json:
        assert len(written) == 4 and all(json.loads(line) for line in written)
        assert "ValueError" in json.loads(written[3])["traceback"]
    else:
        begins = [line for line in written if not line.startswith("  | ")]
        assert len(begins) == 4 and all(" hrn_opt.run: " in line or " some: " in line for line in begins)


@pytest.mark.parametrize("as_json", [False, True])
def test_what_lies_below_the_served_folder_is_named_nowhere(lines, as_json):
    lines("info", as_json)
    try:
        raise OSError("no such file: '/tmp/hrn_opt_ab12_x/f00/Anna at home.jpg'")
    except OSError as error:
        logging.getLogger("some").exception("Could not read %s", error)
    told = "\n".join(lines())
    assert "Anna" not in told and "f00" not in told and "hrn_opt_ab12_x/" in told


def test_a_run_is_one_line(lines):
    lines("info", as_json=False)
    record = RunRecord("r1", "address:192.0.2.1", "builtin", "mesh", 1024, 2, 1.23456, "refused", "NoFaceFound")
    log_run(record)
    (line,) = lines()
    assert " hrn_opt.run: run run_id=r1 visitor=" in line and line.endswith(
        "model=builtin want=mesh texture_size_px=1024 faces=2 seconds=1.235 outcome=refused refusal=NoFaceFound"
    )
    assert "192.0.2.1" not in line and visitor_hash("address:192.0.2.1") in line
    assert visitor_hash("a") == visitor_hash("a") != visitor_hash("b") and len(visitor_hash("a")) == 8


def test_a_visitors_hash_cannot_be_looked_up(monkeypatch):
    before = visitor_hash("address:192.0.2.1")
    monkeypatch.setattr(logs, "_SALT", b"another start's ")
    assert visitor_hash("address:192.0.2.1") != before


def test_the_level_and_uvicorns_own_log(lines):
    lines("warning")
    Browser(RequestLog(page)).get("/config")
    logging.getLogger("uvicorn.access").error("GET /anna.jpg")
    logging.getLogger("httpx").info("HTTP Request: GET http://x")
    assert lines() == []
    logging.getLogger("uvicorn.error").warning("heard")
    assert [json.loads(line)["logger"] for line in lines()] == ["uvicorn.error"]
