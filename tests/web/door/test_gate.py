"""The gate: who is told apart from whom, what strangers get, and that nobody reaches what is another visitor's."""

import asyncio
import json

import pytest

from hrn_opt.web.door.access import Access, hash_password, hash_token, read_tokens, read_users
from hrn_opt.web.door.gate import Gate
from hrn_opt.web.door.owners import Owners
from tests.web.asking import Browser, asked

ACCESS = Access(read_users(f"ada:{hash_password('x')}"), read_tokens(f"ci:{hash_token('secret')}"))
OPEN = Access()


class Page:
    """Answers as Gradio does, and keeps what reached it."""

    def __init__(self, root):
        self.root = root
        self.asked = []
        self.uploads = 0

    async def __call__(self, scope, receive, send):
        body = (await receive())["body"] if scope["type"] == "http" and scope["method"] == "POST" else b""
        self.asked.append((scope, body))
        answer, headers = {"visitor": scope["hrn_opt.visitor"], "user": scope["hrn_opt.user"]}, []
        if scope["path"].endswith("/upload"):
            assert not any(name == b"accept-encoding" for name, _ in scope["headers"])
            answer = [f"{self.root}/{body.decode()}/me.jpg"]
        elif "/call/" in scope["path"] or scope["path"].endswith("/join"):
            answer = {"event_id": f"event{len(self.asked)}"}
        if scope["path"] == "/":
            headers = [(b"Cache-Control", b"public"), (b"set-cookie", b"other=1")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        halves = json.dumps(answer).encode()
        await send({"type": "http.response.body", "body": halves[:5], "more_body": True})
        await send({"type": "http.response.body", "body": halves[5:]})


@pytest.fixture
def page(tmp_path):
    return Page(tmp_path / "served")


@pytest.fixture
def owners(tmp_path):
    return Owners(tmp_path / "served")


@pytest.fixture
def app(page, owners):
    return Gate(page, OPEN, owners)


@pytest.fixture
def ada(app):
    return entered(app)


@pytest.fixture
def eve(app):
    return entered(app)


def entered(app, **options):
    browser = Browser(app, **options)
    assert browser.get("/").status == 200
    return browser


def post(browser, route, **content):
    return browser.post(f"/gradio_api/{route}", json.dumps(content).encode()).status


def test_each_browser_is_a_visitor_of_its_own_and_stays_one(app, ada, eve):
    seen = [json.loads(browser.get("/config").text)["visitor"] for browser in (ada, ada, eve)]
    assert seen[0] == seen[1] != seen[2] and ":" not in "".join(seen)
    ada.get("/")
    assert json.loads(ada.get("/config").text)["visitor"] == seen[0]


def test_the_first_page_gives_the_cookie_and_nothing_else_does(app):
    answer = Browser(app).get("/")
    cookies = [value for name, value in answer.headers if name == b"set-cookie"]
    assert len(cookies) == 2 and b"hrn_opt=" in cookies[1]  # beside the page's own
    assert [value for name, value in answer.headers if name.lower() == b"cache-control"] == [b"no-store"]
    # A program that keeps cookies would else be two visitors within one call.
    assert not Browser(app).get("/config").header("set-cookie")


def test_programs_without_cookies_are_told_apart_by_their_address(app):
    told = Browser(app, address="2001:db8::1").get("/config").text
    assert json.loads(told) == {"visitor": "address:2001:db8::1", "user": None}


def test_a_token_is_a_visitor_and_a_wrong_one_is_none(page, owners):
    app = Gate(page, ACCESS, owners)
    told = Browser(app).get("/config", authorization="Bearer secret").text
    assert json.loads(told) == {"visitor": "token:ci", "user": None}
    for wrong in ("Bearer Secret", "Bearer", "Bearer ", "Basic secret", "secret", f"Bearer {hash_token('secret')}"):
        answer = Browser(app).get("/config", authorization=wrong)
        assert answer.status == 401 and answer.header("www-authenticate").startswith("Bearer")
    assert Browser(app).get("/metrics").status == 401
    assert Browser(app).get("/metrics", authorization="bearer secret").status == 200
    # An open page takes no notice of tokens that are for others, such as a hub's.
    assert Browser(Gate(page, OPEN, owners)).get("/config", authorization="Bearer hf_x").status == 200


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/version", "/robots.txt", "/favicon.ico"])
def test_what_needs_no_signin(page, owners, path):
    assert Browser(Gate(page, ACCESS, owners)).get(path).status == 200


@pytest.mark.parametrize(
    "path",
    [
        *("/config", "/gradio_api/info", "/gradio_api/heartbeat/s", "/gradio_api/queue/data?session_hash=s"),
        *(
            "/theme.css",
            "/assets/x.js",
            "/docs",
            "/openapi.json",
            "/metrics",
            "//",
            "/healthz/",
            "/HEALTHZ",
            "/signin/",
        ),
    ],
)
def test_a_stranger_gets_nothing_else(page, owners, path):
    app = Gate(page, ACCESS, owners)
    assert Browser(app).get(path).status == 401
    assert Browser(app).post("/gradio_api/queue/join", b"{}").status == 401
    assert Browser(app).post("/gradio_api/cancel", b"{}").status == 401
    assert Browser(app).post("/").status == 401 and page.asked == []


def test_the_api_tells_its_problems_as_json(page, owners):
    answer = Browser(Gate(page, ACCESS, owners)).post("/api/v1/faces", b"{}")
    assert answer.header("content-type") == "application/problem+json"
    problem = json.loads(answer.text)
    assert problem["status"] == answer.status == 401 and problem["title"] == "Unauthorized" and problem["detail"]


def test_below_a_sub_path_the_same_holds(page, owners, tmp_path):
    app = Gate(page, OPEN, owners)
    ada, eve = entered(app, root_path="/faces"), entered(app, root_path="/faces")
    assert post(ada, "queue/join", session_hash="s") == 200
    assert eve.get("/gradio_api/heartbeat/s").status == 403
    assert eve.get(f"/gradio_api/file={tmp_path}/served/x/me.jpg").status == 403


def test_a_session_is_its_visitors_alone(ada, eve, page):
    """A stranger's heartbeat, once closed, deleted the visitor's photos."""
    assert post(ada, "queue/join", session_hash="s", data=[]) == 200
    reached = len(page.asked)
    assert eve.get("/gradio_api/heartbeat/s").status == 403
    assert eve.get("/gradio_api/heartbeat/%73/").status == 403
    assert eve.get("/gradio_api/queue/data?session_hash=s").status == 403
    assert eve.get("/gradio_api/queue/data?session_hash=%73").status == 403
    for route in ("queue/join", "run/predict", "call/create", "cancel", "api/create", "stream/x"):
        assert post(eve, route, session_hash="s", data=[], fn_index=0, event_id="other") == 403, route
    assert len(page.asked) == reached
    assert ada.get("/gradio_api/heartbeat/s").status == ada.get("/gradio_api/queue/data?session_hash=s").status == 200
    assert post(ada, "cancel", session_hash="s", fn_index=0, event_id=f"event{reached}") == 200


def test_whatever_comes_first_claims_the_session(ada, eve):
    assert ada.get("/gradio_api/heartbeat/one").status == 200 and post(eve, "queue/join", session_hash="one") == 403
    assert ada.get("/gradio_api/queue/data?session_hash=two").status == 200
    assert eve.get("/gradio_api/heartbeat/two").status == 403
    assert ada.post("/gradio_api/upload?upload_id=u", b"f", "multipart/form-data; boundary=x").status == 200
    assert eve.get("/gradio_api/upload_progress?upload_id=u").status == 403


def test_what_could_be_read_in_two_ways_is_refused(ada, eve, page):
    assert post(ada, "queue/join", session_hash="s") == 200
    reached = len(page.asked)
    twice = b'{"session_hash": "s", "session_hash": "mine"}'
    assert eve.post("/gradio_api/queue/join", twice).status == 400
    assert eve.get("/gradio_api/queue/data?session_hash=mine&session_hash=s").status == 400
    assert eve.post("/gradio_api/queue/join", b"[" * 200_000).status == 400
    assert len(page.asked) == reached


def test_names_and_paths_are_bounded(ada, page, owners, tmp_path):
    """Sessions are remembered, and each path is looked up: neither may be the machine's end."""
    reached = len(page.asked)
    long = "s" * 201
    assert post(ada, "queue/join", session_hash=long) == 400
    assert ada.get(f"/gradio_api/heartbeat/{long}").status == 400
    assert ada.get(f"/gradio_api/queue/data?session_hash={long}").status == 400
    path = uploaded(ada, "folder")
    assert post(ada, "queue/join", data=[path] * 201) == 400
    assert post(ada, "queue/join", data=[path] * 200) == 200
    assert len(page.asked) == reached + 2


def test_other_encodings_of_json_hide_nothing(ada, eve):
    assert post(ada, "queue/join", session_hash="s") == 200
    for encoding in ("utf-16", "utf-32", "utf-8-sig"):
        body = json.dumps({"session_hash": "s"}).encode(encoding)
        assert eve.post("/gradio_api/queue/join", body, "text/plain").status == 403, encoding
    assert eve.post("/gradio_api/queue/join", b'{"session_has\\u0068": "\\u0073"}').status == 403


def test_bodies_reach_the_page_as_they_were(ada, page):
    for body in (b'{"data": [1, "x"]}', b"no json", b"\xff\x00", b"[]", b"", b'{"session_hash": 5}'):
        assert ada.post("/gradio_api/run/predict", body).status == 200
        assert page.asked[-1][1] == body
    assert ada.post("/gradio_api/run/predict", b"x" * 1_000_001).status == 413


def test_an_event_is_for_who_started_it(ada, eve, page):
    event = json.loads(ada.post("/gradio_api/call/create", b'{"data": []}').text)["event_id"]
    assert eve.get(f"/gradio_api/call/create/{event}").status == 403
    assert eve.get(f"/gradio_api/call/create/{event}/").status == 403
    assert eve.get(f"/gradio_api/queue/data?session_hash={event}").status == 403  # Gradio calls such a session so
    assert post(eve, "cancel", session_hash="mine", fn_index=0, event_id=event) == 403
    assert post(eve, "reset", event_id=event) == 403
    assert eve.get("/gradio_api/call/create/unknown").status == 403
    assert ada.get(f"/gradio_api/call/create/{event}").status == 200


def test_two_programs_without_cookies_at_two_addresses(app):
    one, two = Browser(app, address="192.0.2.1"), Browser(app, address="192.0.2.2")
    event = json.loads(one.post("/gradio_api/call/create", b'{"data": []}').text)["event_id"]
    assert two.get(f"/gradio_api/call/create/{event}").status == 403
    assert one.get(f"/gradio_api/call/create/{event}").status == 200


def uploaded(browser, folder):
    answer = browser.post(
        "/gradio_api/upload", folder.encode(), "multipart/form-data; boundary=x", accept_encoding="br"
    )
    return json.loads(answer.text)[0]


def test_a_file_is_for_who_uploaded_it(ada, eve, owners, tmp_path):
    path = uploaded(ada, "folder")
    assert ada.get(f"/gradio_api/file={path}").status == 200
    for way in (f"file={path}", f"file/{path}", f"file={path}%0a", f"file={tmp_path}/served/./folder/me.jpg"):
        assert eve.get(f"/gradio_api/{way}").status == 403, way
    owners.claim_folder("run", "somebody")
    assert ada.get(f"/gradio_api/file={tmp_path}/served/folder/../run/x.png").status == 403
    assert ada.get(f"/gradio_api/file={tmp_path}/served/folder/%2e%2e/run/x.png").status == 403
    assert ada.get("/gradio_api/file=/etc/passwd").status == 403
    assert uploaded(eve, "folder") == path  # the same photo: the same folder
    assert eve.get(f"/gradio_api/file={path}").status == ada.get(f"/gradio_api/file={path}").status == 200


def test_a_file_is_worked_on_for_its_owner_alone(ada, eve, page):
    """Else a result would show a photo whose path somebody guessed from its content."""
    path = uploaded(ada, "folder")
    data = [{"path": path, "url": f"http://host/gradio_api/file={path}", "meta": {"_type": "gradio.FileData"}}, 512]
    reached = len(page.asked)
    for route in ("queue/join", "run/predict", "call/create"):
        assert post(eve, route, data=data, session_hash="eve") == 403
        assert post(eve, route, data=[[{"image": [path]}]], session_hash="eve") == 403
    assert len(page.asked) == reached
    assert post(ada, "queue/join", data=data, session_hash="ada") == 200
    data[0]["url"] = f"/faces/gradio_api/file={path}"
    assert post(ada, "queue/join", data=data, session_hash="ada") == 200


@pytest.mark.parametrize("path", [
    "/etc/passwd", "examples/astronaut.jpg", "/dev/zero", "\0", "\ud800", "",
    "/x/gradio_api/file=/../../..{served}/folder/me.jpg", "x://y/../../..{served}/folder/me.jpg",
])  # fmt: skip
def test_no_other_file_of_the_machine_is_worked_on(ada, eve, page, path):
    """Gradio checks where a file lies only if the input has a "_type", and then copies it first."""
    uploaded(ada, "folder")
    path = path.format(served=page.root)
    for meta in ({"meta": {"_type": "gradio.FileData"}}, {}):
        assert post(eve, "queue/join", data=[{"path": path, **meta}], session_hash="eve") == 403


@pytest.mark.parametrize("name", ["profiles.jpg", "files", "my files/me.jpg"])
def test_a_photo_may_be_called_like_the_served_folder(tmp_path, name):
    page = Page(tmp_path / "hrn_opt_12345678" / "files")
    ada = entered(Gate(page, OPEN, Owners(page.root)))
    data = [{"path": uploaded(ada, "folder"), "orig_name": name}, name]
    assert post(ada, "queue/join", data=data, session_hash="ada") == 200


@pytest.mark.parametrize(("number", "status"), [(2, 200), (-1, 400), (3, 400), (None, 400), ("2", 400), ([], 400)])
def test_only_the_page_s_own_events_can_be_called(page, owners, number, status):
    """Gradio fails at others, with a traceback in the log."""
    ada = entered(Gate(page, OPEN, owners, functions=range(3)))
    assert post(ada, "run/predict", data=[], fn_index=number) == status


def test_only_good_answers_are_learnt_from(owners, tmp_path):
    async def failing(scope, receive, send):
        await send({"type": "http.response.start", "status": 500, "headers": []})
        await send({"type": "http.response.body", "body": json.dumps([f"{tmp_path}/served/victim/x"]).encode()})

    eve = Browser(Gate(failing, OPEN, owners))
    eve.post("/gradio_api/upload", b"", "multipart/form-data; boundary=x")
    assert not owners.may_read(f"{tmp_path}/served/victim/x", "address:192.0.2.1")


def test_a_websocket_is_closed_and_a_lifespan_passes(app, page):
    sent = []

    async def send(message):
        sent.append(message)

    asyncio.run(app({"type": "websocket", "path": "/"}, None, send))
    assert sent == [{"type": "websocket.close", "code": 1008}] and page.asked == []
    passed = []

    async def inner(scope, receive, send):
        passed.append(scope["type"])

    asyncio.run(Gate(inner, ACCESS, Owners("/nowhere"))({"type": "lifespan"}, None, send))
    assert passed == ["lifespan"]


def test_a_request_without_a_client_address(app):
    scope = {"type": "http", "method": "GET", "path": "/config", "headers": [], "client": None}
    assert json.loads(asyncio.run(asked(app, scope)).text)["visitor"] == "address:"
