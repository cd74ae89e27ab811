"""The guard refuses what is too large or would make the server fetch, and passes everything else on unchanged."""

import asyncio
import json

import pytest

from hrn_opt.web.asgi import local_path
from hrn_opt.web.door.bodies import JSON_BYTES
from hrn_opt.web.door.guard import Guard


def ask(path, body=None, headers=(), kind="http", method=None, limit=5000, parts=1, more=(), **options):
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
            answer["body"] = answer.get("body", b"") + message.get("body", b"")

    pieces = []
    method = method or ("GET" if body is None else "POST")
    length = [] if body is None else [(b"content-length", str(len(body)).encode())]
    given = dict([*length, *headers])
    pairs = [*((name, value) for name, value in given.items() if value), *more]
    scope = {"type": kind, "path": path, "method": method, "headers": pairs}
    asyncio.run(Guard(page, max_body_bytes=limit, **options)(scope, receive, send))
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
    [
        *("token", "user", "login_check", "app_id", "queue/status", "stream/x/y", "component_server", "api/create"),
        *("mcp/", "mcp/sse", "mcp/messages/", "mcp/schema"),
        *("login", "logout", "startup-events", "manifest.json", "monitoring/summary", "docs"),
    ],
)
@pytest.mark.parametrize("body", [None, b"{}"])
def test_what_the_page_does_not_need_is_not_there(path, body):
    assert status_of(f"/gradio_api/{path}", body) == 404
    assert status_of(f"/{path}", body) == 404


def test_the_tools_route_is_there_where_it_is_on_and_takes_more_than_other_parameters():
    body = b'["//9j' + b"A" * (2 * JSON_BYTES) + b'"]'  # base64 that looks like an address
    assert status_of("/api/v1/mcp", body, [JSON]) == 404
    answer, given = ask("/api/v1/mcp", body, [JSON], parts=5, mcp_body_bytes=3 * JSON_BYTES)
    assert answer["status"] == 200 and given == body
    assert status_of("/api/v1/mcp", body, [JSON], mcp_body_bytes=2 * JSON_BYTES) == 413
    assert status_of("/api/v1/faces", body, [JSON], mcp_body_bytes=3 * JSON_BYTES) == 413
    assert status_of("/api/v1/mcp", mcp_body_bytes=1) == 200
    assert status_of("/api/v1/mcp/x", body, [JSON], mcp_body_bytes=3 * JSON_BYTES) == 404


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
    assert status_of("/gradio_api/queue/join", body[:-JSON_BYTES], [JSON], limit=10 * JSON_BYTES) == 413


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


def test_an_upload_up_to_the_limit_passes():
    answer, given = ask("/gradio_api/upload", b"x" * 5000, [MULTIPART])
    assert answer["status"] == 200 and len(given) == 5000
    assert status_of("/gradio_api/upload", b"x" * 5001, [MULTIPART]) == 413


@pytest.mark.parametrize("length", [b"-1", b"+5", b"many", b"1" * 5000])
def test_a_length_that_is_no_number_is_refused_unread(length):
    answer, given = ask("/gradio_api/upload", b"x", [MULTIPART, (b"content-length", length)])
    assert answer["status"] == 400 and given is None


CHUNKED = ((b"content-length", b""), (b"transfer-encoding", b"chunked"))


def test_an_upload_of_unknown_length_is_counted_while_it_is_read():
    answer, given = ask("/gradio_api/upload", b"x" * 5000, [MULTIPART, *CHUNKED], parts=50)
    assert answer["status"] == 200 and len(given) == 5000
    for parts in (1, 50):
        answer, _ = ask("/gradio_api/upload", b"x" * 5001, [MULTIPART, *CHUNKED], parts=parts)
        assert answer["status"] == 413 and answer["headers"][b"connection"] == b"close"
    answer, given = ask("/gradio_api/queue/join", b"[1]", [JSON, *CHUNKED])
    assert answer["status"] == 200 and given == b"[1]"


def test_deep_nesting_is_no_crash():
    assert status_of("/gradio_api/queue/join", b"[" * 400_000, [JSON]) == 200  # the page refuses it


def test_every_answer_has_the_headers_once():
    for path, body in (("/", None), ("/gradio_api/proxy=http://x/", None), ("/gradio_api/queue/join", b"[1]")):
        headers = ask(path, body)[0]["headers"]
        assert b"default-src 'self'" in headers[b"content-security-policy"]
        assert headers[b"x-content-type-options"] == b"nosniff" and headers[b"x-frame-options"] == b"SAMEORIGIN"
        assert b"X-Frame-Options" not in headers
    assert b"cache-control" not in ask("/assets/x.js")[0]["headers"]
    assert b"no-store" in ask("/gradio_api/file=/tmp/x.png")[0]["headers"][b"cache-control"]


def test_other_sites_may_not_read_and_nobody_speaks_websocket():
    async def page(scope, receive, send):
        allowing = [(b"Access-Control-Allow-Origin", b"https://elsewhere.example"), (b"x-other", b"1")]
        await send({"type": "http.response.start", "status": 200, "headers": allowing})

    async def send(message):
        sent.append(message)

    sent = []
    asyncio.run(Guard(None)({"type": "websocket", "path": "/"}, None, send))
    assert sent.pop()["type"] == "websocket.close" and status_of("", kind="lifespan") == 200
    asyncio.run(Guard(page)({"type": "http", "path": "/", "method": "GET", "headers": []}, None, send))
    names = {name for name, _ in sent[0]["headers"]}
    assert b"x-other" in names and b"access-control-allow-origin" not in names


@pytest.mark.parametrize(
    ("method", "path"),
    [
        *(("GET", path) for path in ("/healthz", "/readyz", "/metrics", "/version", "/signin")),
        *(("GET", f"/api/v1/{path}") for path in ("openapi.json", "docs", "files/x-y_Z/made/0/a.glb")),
        *(("POST", path) for path in ("/signin", "/signout", "/api/v1/faces")),
    ],
)
def test_our_own_routes_pass_by_their_method_alone(method, path):
    assert status_of(path, method=method, body=b"" if method == "POST" else None) == 200
    assert status_of(path, method="DELETE") == 404
    if path != "/signin":
        other = "POST" if method == "GET" else "GET"
        assert status_of(path, method=other, body=b"" if other == "POST" else None) == 404


def test_refusals_below_api_are_problems_for_programs():
    answer, _ = ask("/api/v1/nothing")
    assert answer["headers"][b"content-type"] == b"application/problem+json"
    told = json.loads(answer["body"])
    assert told == {
        "type": "about:blank",
        "title": "Not Found",
        "status": 404,
        "error": "Http404",
        "detail": "There is nothing here.",
    }
    assert ask("/nothing")[0]["headers"][b"content-type"].startswith(b"text/plain")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([(b"host", b"faces.example")], 200),
        ([(b"host", b"Faces.Example:8080")], 200),
        ([(b"host", b"[::1]:8080")], 200),
        ([(b"host", b"faces.example.evil")], 421),
        ([(b"host", b"10.0.0.1")], 421),
        ([], 421),
        ([(b"host", b"faces.example"), (b"x-forwarded-host", b"faces.example, [::1]")], 200),
        ([(b"host", b"faces.example"), (b"x-forwarded-host", b"elsewhere.example")], 421),
    ],
)
def test_other_names_than_ours_are_not_answered_to(headers, status):
    assert status_of("/", headers=headers, hosts=["faces.example", "[::1]"]) == status
    assert status_of("/", headers=headers) == 200
    assert status_of("/healthz", headers=headers, hosts=["faces.example"]) == 200


def test_behind_a_proxy_that_changes_the_host_our_own_name_is_our_own_origin():
    headers = [(b"host", b"127.0.0.1:8080"), (b"origin", b"https://faces.example")]
    assert status_of("/", headers=headers) == 403
    names = ["faces.example", "127.0.0.1"]
    assert status_of("/", headers=headers, hosts=names) == 200
    headers[1] = (b"origin", b"https://faces.example:9999")  # another server on that machine
    assert status_of("/", headers=headers, hosts=names) == 403


def test_another_site_s_form_is_no_link():
    headers = [(b"sec-fetch-site", b"cross-site"), (b"sec-fetch-mode", b"navigate"), (b"sec-fetch-dest", b"document")]
    assert status_of("/gradio_api/run/predict", b"[1]", headers) == 403


def test_named_sites_may_show_the_page_in_a_frame():
    frame = [(b"sec-fetch-site", b"cross-site"), (b"sec-fetch-mode", b"navigate"), (b"sec-fetch-dest", b"iframe")]
    answer, _ = ask("/", headers=frame, embed_in=["https://huggingface.co", "https://b.example"])
    assert answer["status"] == 200
    policy = answer["headers"][b"content-security-policy"]
    assert b"frame-ancestors 'self' https://huggingface.co https://b.example" in policy
    assert not {b"x-frame-options", b"X-Frame-Options", b"cross-origin-opener-policy"} & answer["headers"].keys()
    answer, _ = ask("/")
    assert answer["headers"][b"content-security-policy"].endswith(b"frame-ancestors 'self'")
    assert answer["headers"][b"cross-origin-opener-policy"] == b"same-origin"


def test_a_server_below_a_root_path_answers_with_it_or_without():
    for path in ("/faces/config", "/config", "/faces/"):
        assert status_of(path, root_path="/faces") == 200
    answer, given = ask("/faces", root_path="/faces")
    assert (answer["status"], answer["headers"][b"location"], given) == (308, b"/faces/", None)
    for path in ("/faces/login", "/facesconfig", "/other/config"):
        assert status_of(path, root_path="/faces") == 404


@pytest.mark.parametrize("given", ["/faces/gradio_api/info", "/gradio_api/info"])
def test_the_page_below_a_root_path_sees_the_whole_path(given):
    seen = []

    async def page(scope, receive, send):
        seen.append((scope["root_path"], scope["path"], scope["raw_path"], local_path(scope)))

    scope = {"type": "http", "path": given, "raw_path": given.encode(), "method": "GET", "headers": []}
    asyncio.run(Guard(page, root_path="/faces/")(scope, None, None))
    assert seen == [("/faces", "/faces/gradio_api/info", b"/faces/gradio_api/info", "/gradio_api/info")]


def test_too_many_headers_are_refused():
    assert status_of("/", headers=[(b"cookie", b"x" * 20_000)]) == 431
