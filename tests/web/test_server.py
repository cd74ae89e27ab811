"""The real server, behind a password: what a stranger gets, and what a user gets."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from http.cookiejar import CookieJar
from pathlib import Path

import pytest

from hrn_opt.web.access import hash_password

ROOT = Path(__file__).parents[2]
STARTS_WITHIN_S = 90  # two busy cores and cold files


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The address of a page with one user, ada."""
    temporary = tmp_path_factory.mktemp("served")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    users = f"ada:{hash_password('correct horse')}"
    environment = {**os.environ, "TMPDIR": str(temporary), "HRN_OPT_USERS": users, "HRN_OPT_MAX_UPLOAD_MB": "0.5"}
    command = [sys.executable, "app.py", "--port", str(port), "--host", "0.0.0.0", "--model", "builtin"]
    with (temporary / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
    try:
        address = f"http://127.0.0.1:{port}"
        until = time.monotonic() + STARTS_WITHIN_S
        while status(address + "/healthz") != 200:
            assert process.poll() is None and time.monotonic() < until, (temporary / "log").read_text()
            time.sleep(0.2)
        yield address
    finally:
        process.terminate()
        process.wait(30)


def answer(address, body=None, headers=(), opener=None):
    """(status, headers) of one request; status 0 when nobody answers."""
    request = urllib.request.Request(address, body, dict(headers))
    try:
        with (opener or urllib.request.build_opener()).open(request, timeout=60) as response:
            response.read()
            return response.status, response.headers
    except urllib.error.HTTPError as error:
        return error.code, error.headers
    except OSError:
        return 0, {}


def status(*args, **options):
    return answer(*args, **options)[0]


def form(**fields):
    parts = [
        f'--x\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n' for name, value in fields.items()
    ]
    return "".join([*parts, "--x--\r\n"]).encode(), {"Content-Type": "multipart/form-data; boundary=x"}.items()


@pytest.fixture(scope="module")
def ada(server):
    """An opener that has logged in."""
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))
    assert status(server + "/login", *form(username="ada", password="wrong"), opener) == 400
    assert status(server + "/login", *form(username="ada", password="correct horse"), opener) == 200
    return opener


def test_a_stranger_gets_nothing_but_the_login(server):
    assert status(server + "/config") == 401
    assert status(server + "/gradio_api/upload", *form(files="x")) == 401
    assert status(server + "/healthz") == 200


def test_a_user_gets_the_page_with_its_headers(server, ada):
    code, headers = answer(server + "/config", opener=ada)
    assert code == 200 and "default-src 'self'" in headers["Content-Security-Policy"]
    assert headers.get_all("X-Content-Type-Options") == ["nosniff"]


def test_even_a_user_cannot_make_the_server_fetch(server, ada):
    body = json.dumps({"data": [{"path": "http://127.0.0.1:9/x.jpg", "meta": {"_type": "gradio.FileData"}}, 512]})
    for route in ("call/create", "run/predict", "queue/join"):
        assert status(f"{server}/gradio_api/{route}", body.encode(), {"Content-Type": "application/json"}, ada) == 403
    for route in ("proxy=http://127.0.0.1:9/x", "file=http://127.0.0.1:9/x", "file/http://127.0.0.1:9/x"):
        assert status(f"{server}/gradio_api/{route}", opener=ada) == 404


def test_a_body_that_lies_about_its_length_costs_nothing(server):
    """A short Content-Length beside chunks: 2.5 GB were read before anybody logged in."""
    host, port = server.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        head = "POST /gradio_api/queue/join HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        connection.sendall(f"{head}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 400")


def test_a_large_upload_is_refused_before_it_is_read(server, ada):
    assert status(server + "/gradio_api/upload", *form(files="x" * 700_000), ada) == 413


def test_a_public_address_without_users_is_refused():
    environment = {key: value for key, value in os.environ.items() if not key.startswith("HRN_OPT_")}
    ended = subprocess.run(
        [sys.executable, "app.py", "--host", "0.0.0.0", "--port", "1"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=STARTS_WITHIN_S,
    )
    assert ended.returncode == 2 and "HRN_OPT_USERS" in ended.stderr and "Traceback" not in ended.stderr
