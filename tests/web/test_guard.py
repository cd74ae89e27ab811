"""The guard refuses what is too large or would make the server fetch, and passes everything else on unchanged."""

import asyncio
import json

import pytest

from hrn_opt.web.guard import JSON_BYTES, Guard


def ask(path, body=None, headers=(), kind="http", method=None, limit=5000, parts=1, more=()):
    """(status, headers, what the page was given as a body) of one request."""
    seen, answer = [], {}

    async def page(scope, receive, send):
        content = b""
        while scope["type"] == "http" and scope["method"] == "POST":
            message = await receive()
            content += message.get("body", b"")
            if not message.get("more_body"):
                break
        seen.append(content)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"X-Frame-Options", b"ALLOW")]})

    async def receive():
        step = -(-len(body) // parts)
        start = step * len(pieces)
        pieces.append(start)
        more = start + step < len(body)
        return {"type": "http.request", "body": body[start : start + step], "more_body": more}

    async def send(message):
        if message["type"] == "http.response.start":
            answer.update(status=message["status"], headers=dict(message["headers"]))
        else:
            answer["body"] = message["body"]

    pieces = []
    method = method or ("GET" if body is None else "POST")
    length = [] if body is None else [(b"content-length", str(len(body)).encode())]
    given = dict([*length, *headers])
    pairs = [*((name, value) for name, value in given.items() if value), *more]
    scope = {"type": kind, "path": path, "method": method, "headers": pairs}
    asyncio.run(Guard(page, limit, jobs=lambda: 3)(scope, receive, send))
    return answer, (seen[0] if seen else None)


def status_of(*args, **options):
    return ask(*args, **options)[0]["status"]


MULTIPART = (b"content-type", b"multipart/form-data; boundary=x")
JSON = (b"content-type", b"application/json")
UPLOADED = {"path": "/tmp/hrn_opt_x/abc/me.jpg", "url": "http://127.0.0.1:8080/gradio_api/file=/tmp/x", "meta": {}}


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/file=http://127.0.0.1:9/x",
        "/gradio_api/file=HTTPS://somewhere/x",
        "/gradio_api/file= ftp://somewhere/x",
        "/gradio_api/file/http://somewhere/x",
        "/gradio_api/file/%20http:/somewhere/x",
        "/file=http://somewhere/x",
        "/gradio_api/proxy=http://somewhere/x",
    ],
)
def test_fetching_by_the_path_is_refused(path):
    assert status_of(path) == 404


@pytest.mark.parametrize(
    "path",
    ["token", "user", "login_check", "app_id", "queue/status", "stream/x/y", "component_server", "api/create", "mcp/"],
)
@pytest.mark.parametrize("body", [None, b"{}"])
def test_what_the_page_does_not_need_is_not_there(path, body):
    assert status_of(f"/gradio_api/{path}", body) == 404
    assert status_of(f"/{path}", body) == 404


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "POST"])
def test_reading_is_all_that_can_be_done_with_the_page(method):
    assert status_of("/", method=method) == 404


@pytest.mark.parametrize(
    ("headers", "more"),
    [
        ([JSON], [JSON]),
        ([JSON], [(b"Content-Type", b"multipart/form-data; boundary=x")]),
        ([(b"host", b"a")], [(b"host", b"b")]),
        ([], [(b"content-length", b"5")]),
        ([], [(b"transfer-encoding", b"chunked")]),
    ],
)
def test_headers_that_contradict_each_other_are_refused_unread(headers, more):
    answer, given = ask("/gradio_api/queue/join", b'{"data": []}', headers, more=more)
    assert answer["status"] == 400 and given is None


def test_a_body_longer_than_it_says_is_not_collected():
    """A server that lets it through is not relied upon."""
    body = b'"' + b"x" * (3 * JSON_BYTES) + b'"'
    assert status_of("/gradio_api/queue/join", body, [JSON, (b"content-length", b"9")], parts=100) == 413


SITE, OWN = (b"host", b"faces.example"), b"https://faces.example"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([(b"sec-fetch-site", b"same-origin")], 200),
        ([(b"sec-fetch-site", b"none")], 200),
        ([(b"sec-fetch-site", b"cross-site")], 403),
        ([(b"sec-fetch-site", b"same-site")], 403),
        ([(b"sec-fetch-site", b"cross-site"), (b"sec-fetch-mode", b"no-cors"), (b"sec-fetch-dest", b"image")], 403),
        ([(b"sec-fetch-site", b"cross-site"), (b"sec-fetch-mode", b"navigate"), (b"sec-fetch-dest", b"iframe")], 403),
        ([(b"sec-fetch-site", b"cross-site"), (b"sec-fetch-mode", b"navigate"), (b"sec-fetch-dest", b"document")], 200),
        ([(b"origin", OWN)], 200),
        ([(b"origin", b"https://elsewhere.example")], 403),
        ([(b"origin", b"null")], 403),
        ([(b"origin", b"https://proxied.example"), (b"sec-fetch-site", b"same-origin")], 200),
        ([], 200),  # a program
    ],
)
def test_other_sites_pages_get_nothing(headers, status):
    assert status_of("/", headers=[SITE, *headers]) == status


@pytest.mark.parametrize(
    "content",
    [
        {"data": [{"path": "http://127.0.0.1:9/x", "meta": {"_type": "gradio.FileData"}}, 1024]},
        {"data": [{"path": " HTTPS://somewhere/x"}]},
        {"data": ["http://somewhere/x.jpg"]},
        {"data": [[{"image": {"path": "//somewhere/x"}}]]},
        {"photo": {"path": "file:///etc/passwd"}},
    ],
)
@pytest.mark.parametrize("kind", [JSON, (b"content-type", b"text/plain"), (b"content-type", b"")])
def test_fetching_by_an_input_is_refused_whatever_its_type_says(content, kind):
    assert status_of("/gradio_api/queue/join", json.dumps(content).encode(), [kind]) == 403


@pytest.mark.parametrize("parts", [1, 4])
def test_what_the_page_sends_passes_unchanged(parts):
    body = json.dumps({"data": [UPLOADED, 1024, "a // b", None], "session_hash": "x"}).encode()
    answer, given = ask("/gradio_api/queue/join", body, [JSON], parts=parts)
    assert answer["status"] == 200 and given == body


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/gradio_api/file=/tmp/private/texture.png",
        "/assets/httpclient.js",
        "/config",
        "/robots.txt",
        "/theme.css",
        "/static/fonts/x/y.woff2",
    ],
)
def test_the_page_itself_passes(path):
    assert status_of(path) == 200


def test_other_protocols_pass():
    assert status_of("", kind="lifespan") == 200


def test_an_upload_up_to_the_limit_passes():
    answer, given = ask("/gradio_api/upload", b"x" * 5000, [MULTIPART])
    assert answer["status"] == 200 and len(given) == 5000
    assert status_of("/gradio_api/upload", b"x" * 5001, [MULTIPART]) == 413


def test_parameters_are_limited_more():
    body = b'"' + b"x" * JSON_BYTES + b'"'
    assert status_of("/gradio_api/queue/join", body, [JSON], limit=10 * JSON_BYTES) == 413


@pytest.mark.parametrize("length", [b"", b"-1", b"many"])
def test_a_body_of_unknown_length_is_refused_unread(length):
    answer, given = ask("/gradio_api/upload", b"x", [MULTIPART, (b"content-length", length)])
    assert answer["status"] == 411 and given is None


def test_deep_nesting_is_no_crash():
    assert status_of("/gradio_api/queue/join", b"[" * 400_000, [JSON]) == 200  # the page refuses it


def test_every_answer_has_the_headers_once():
    for path, body in (("/", None), ("/gradio_api/proxy=http://x/", None), ("/healthz", None)):
        headers = ask(path, body)[0]["headers"]
        assert b"default-src 'self'" in headers[b"content-security-policy"]
        assert headers[b"x-content-type-options"] == b"nosniff" and headers[b"x-frame-options"] == b"SAMEORIGIN"
        assert b"X-Frame-Options" not in headers
    assert b"cache-control" not in ask("/assets/x.js")[0]["headers"]
    assert b"no-store" in ask("/gradio_api/file=/tmp/x.png")[0]["headers"][b"cache-control"]


def test_health_is_told_without_the_page():
    answer, given = ask("/healthz")
    assert (answer["status"], json.loads(answer["body"]), given) == (200, {"status": "ok", "jobs": 3}, None)
