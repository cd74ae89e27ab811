"""Odd paths, methods, headers and connections: the route list, the gate and the server hold."""

import json
import os
import socket
from contextlib import ExitStack

import httpx
import pytest

from hrn_opt.web.door.access import hash_password
from tests.attacks.strangers import (
    at_once,
    face,
    figure,
    joined,
    outcome,
    raw,
    ready,
    served_folder,
    uploaded,
    visiting,
    wait_until,
)
from tests.browser.visits import serving

pytestmark = pytest.mark.slow
SECRET = "/etc/passwd"
GET = b"GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n%s\r\n"


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("routes"), "--model", "builtin") as served:
        yield ready(served)


@pytest.fixture
def photo(example_photo):
    return example_photo.read_bytes() + os.urandom(8)


def status_of(answer):
    return int(answer[9:12]) if answer.startswith(b"HTTP/1.1 ") else 0


@pytest.mark.parametrize("path", [
    *("//", "//gradio_api/file=/etc/passwd", "/gradio_api//file=/etc/passwd", "/./config", "/x/../config", "/config;x"),
    *("/%2e%2e/%2e%2e/etc/passwd", "/..%2f..%2fetc/passwd", "/assets/..%2f..%2f..%2fconfig.py", "/assets/../app.py"),
    *("/gradio_api/file=%2fetc%2fpasswd", "/gradio_api/file=../../../etc/passwd", "/gradio_api/file=C:\\x"),
    *("/gradio_api/file=/proc/self/environ", "/gradio_api/file=%00", "/gradio_api/file=/dev/zero", "/%00", "/%ff"),
    *("/gradio_api/file=//etc/passwd", "/gradio_api/file=file:///etc/passwd", "/static/..%5c..%5capp.py", "/\xc3\xa9"),
    *("/api/v1/files/../../healthz", "/api/v1/files/x/..%2f..%2fetc", "/api/v1/../../config", "/CONFIG", "/config%20"),
    *("/gradio_api/call/create/..%2f..%2fconfig", "/gradio_api/dev/reload", "/gradio_api/runs", "*", "http://x/config"),
    *("/gradio_api/file=" + "a/" * 7000, "/" + "%41" * 5000, "/config?" + "a=b&" * 3000, "/assets/" + "../" * 4000),
])  # fmt: skip
def test_no_odd_path_leads_anywhere(served, path):
    for method in (b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"DELETE", b"PROPFIND"):
        answer = raw(served.address, (method + GET[3:]) % (path.encode("latin-1"), b""))
        assert status_of(answer) in (200, 400, 403, 404, 405, 414, 431)
        assert status_of(answer) != 200 or path in ("//", "http://x/config") or path.startswith("/config?")
        assert b"root:" not in answer and b"Traceback" not in answer


@pytest.mark.parametrize("head", [
    b"X: " + b"a" * 70_000, b"Cookie: " + b"hrn_opt=x; " * 1400, b"Cookie: hrn_opt=" + b"." * 9000, b"X:\r\n" * 3000,
    b"Host: y", b"Content-Length: -1", b"Content-Length: 1, 1", b"Content-Length: 00000000000000000001",
    b"Transfer-Encoding: chunked, identity", b"Transfer-Encoding: xchunked", b"Expect: 200-ok", b"Upgrade: h2c",
    b"X-Forwarded-Host: evil", b"Authorization: Bearer \xff\xfe", b"Range: bytes=" + b"0-," * 4000, b"X Y: z",
])  # fmt: skip
def test_odd_headers_are_no_fault(served, head):
    answer = raw(served.address, GET % (b"/healthz", head + b"\r\n"), wait_s=8)
    assert status_of(answer) in (0, 200, 400, 421, 431, 501) and b"evil" not in answer


def test_what_follows_a_request_is_another_one_with_all_its_checks(served):
    """A body that the first layer refuses must not be read as the next request's beginning."""
    smuggled = b"GET /config HTTP/1.1\r\nHost: x\r\n\r\n"
    for kind in (b"Content-Length: %d\r\nTransfer-Encoding: chunked" % len(smuggled), b"Content-Length: 5"):
        head = b"POST /gradio_api/token HTTP/1.1\r\nHost: x\r\n" + kind + b"\r\n\r\n"
        assert raw(served.address, head + smuggled, wait_s=8).count(b"HTTP/1.1 ") == 1
    answers = raw(served.address, (GET % (b"/healthz", b"")).replace(b"Connection: close\r\n", b"") * 20, wait_s=1)
    assert answers.count(b"HTTP/1.1 200") == 20


def test_ranges_of_a_file(served, photo):
    with visiting(served.address) as visitor:
        path = uploaded(visitor, photo)
        for value, status in (("bytes=0-3", 206), ("bytes=99999999-", 416), ("bytes=x", 400), ("bytes=-5", 206)):
            assert visitor.get(f"/gradio_api/file={path}", headers={"range": value}).status_code in (status, 200)
        for odd in (
            "bytes=5-3",
            "bytes=-",
            "bytes=0-1-2",
            "bytes=1e3-",
            "bytes=-0",
            "bytes=0-99999999999999999999",
            "x",
        ):
            assert visitor.get(f"/gradio_api/file={path}", headers={"range": odd}).status_code < 500, odd
        many = "bytes=" + ",".join(f"{at}-{at}" for at in range(0, 2400, 2))
        answer = visitor.get(f"/gradio_api/file={path}", headers={"range": many})
        assert answer.status_code < 500 and len(answer.content) < 2 * len(photo)


def test_equal_photos_of_two_visitors_are_each_one_s_own(served, photo):
    """The folder is shared: the first who leaves must not take it from the other, who works with it."""
    with visiting(served.address) as ada, visiting(served.address) as bob:
        path = uploaded(ada, photo)
        assert uploaded(bob, photo) == path
        for visitor, session in ((ada, "ada"), (bob, "bob")):
            assert joined(visitor, path, session).status_code == 200 and outcome(visitor, session)["success"]
        with ada.stream("GET", "/gradio_api/heartbeat/ada") as heartbeat:
            next(heartbeat.iter_raw())
        assert bob.get(f"/gradio_api/file={path}").content == photo
        assert joined(bob, path, "bob").status_code == 200 and outcome(bob, "bob")["success"]


def test_streams_that_nobody_reads_and_a_hundred_that_leave(served, photo, record_property):
    host, port = served.address.removeprefix("http://").split(":")
    with ExitStack() as stack:
        for number in range(100):
            one = stack.enter_context(socket.create_connection((host, int(port)), timeout=30))
            one.sendall(b"GET /gradio_api/heartbeat/tab%d HTTP/1.1\r\nHost: x\r\n\r\n" % number)
        with httpx.Client(base_url=served.address, timeout=60, trust_env=False) as http:
            statuses = at_once(lambda _: face(http, photo).status_code, range(4), threads=4)
            files = served.process.num_fds()
    wait_until(lambda: served.process.num_fds() < files - 90)
    figure(record_property, "streams", beside=statuses, open_files=files, after=served.process.num_fds())
    assert statuses == [200] * 4


def test_trickled_uploads_keep_nobody_waiting(served, photo, record_property):
    head = b"POST /api/v1/faces HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=x\r\n"
    begun = head + b"Content-Length: 9000\r\n\r\n--x\r\n"
    host, port = served.address.removeprefix("http://").split(":")
    with ExitStack() as stack:
        for _ in range(120):
            stack.enter_context(socket.create_connection((host, int(port)), timeout=30)).sendall(begun)
        with httpx.Client(base_url=served.address, timeout=60, trust_env=False) as http:
            assert face(http, photo).status_code == 200
    figure(record_property, "trickled", uploads=120, answered=True)


def test_names_in_any_script_and_forged_cookies(tmp_path):
    name = "Ада 😀 İ"
    users = {"HRN_OPT_USERS": f"{name}:{hash_password('пароль')}"}
    with serving(tmp_path, "--host", "0.0.0.0", "--model", "builtin", **users) as served:
        with httpx.Client(base_url=served.address, timeout=60, trust_env=False) as ada:
            assert ada.post("/signin", data={"name": name, "password": "пароль"}).status_code == 303
            assert ada.get("/config").status_code == 200
            cookie = ada.cookies["hrn_opt"]
            assert name.encode() not in ada.get("/config").content
        payload, stamp, signature = cookie.split(".")
        forged = [payload, f"{payload}.{stamp}", f"{payload}.{stamp}.", f".{stamp}.{signature}", "", "x" * 9000]
        forged += [f"{payload[:-2]}AA.{stamp}.{signature}", f"{payload}.AAAAAA.{signature}", cookie[:-3], cookie + "x"]
        for one in forged:
            with httpx.Client(base_url=served.address, trust_env=False, headers={"cookie": f"hrn_opt={one}"}) as eve:
                assert eve.get("/config").status_code == 401, one
        for line in (served.folder / "server.log").read_text().splitlines():
            assert cookie not in line and signature not in line


def test_nothing_is_left_of_all_that(served):
    root = served_folder(served)
    assert not list(root.glob("tmp*"))
    with httpx.Client(base_url=served.address, trust_env=False) as http:
        assert json.loads(http.get("/healthz").text) == {"status": "ok", "jobs": 0}
