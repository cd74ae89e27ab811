"""The real server, behind a password: what a stranger gets, and what a user gets."""

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from http.cookiejar import CookieJar
from pathlib import Path

import pytest

from hrn_opt.web.door.access import hash_password
from tests.browser.visits import STARTS_WITHIN_S, serving

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The address of a page with one user, ada."""
    users = f"ada:{hash_password('correct horse')}"
    variables = {"HRN_OPT_USERS": users, "HRN_OPT_MAX_UPLOAD_MB": "0.5"}
    with serving(tmp_path_factory.mktemp("served"), "--host", "0.0.0.0", "--model", "builtin", **variables) as served:
        yield served.address


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
    """An opener that has signed in."""
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))
    assert status(server + "/signin", b"name=ada&password=wrong", opener=opener) == 401
    assert status(server + "/signin", b"name=ada&password=correct+horse", opener=opener) == 200
    return opener


def test_a_stranger_gets_nothing_but_the_sign_in(server):
    assert status(server + "/config") == 401
    assert status(server + "/gradio_api/upload", *form(files="x")) == 401
    assert status(server + "/api/v1/faces", *form(photo="x")) == 401
    assert status(server + "/metrics") == 401
    for open_path in ("/healthz", "/version"):
        assert status(server + open_path) == 200
    assert status(server + "/readyz") in (200, 503)  # the model may be loading


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


def test_a_large_upload_is_refused_before_it_is_read(server, ada):
    assert status(server + "/gradio_api/upload", *form(files="x" * 700_000), ada) == 413


def without_settings():
    return {key: value for key, value in os.environ.items() if not key.startswith("HRN_OPT_")}


def run(*arguments, **variables):
    """A start that is expected to end by itself."""
    return subprocess.run(
        [sys.executable, "app.py", *arguments],
        cwd=ROOT,
        env=without_settings() | variables,
        capture_output=True,
        text=True,
        timeout=STARTS_WITHIN_S,
    )


def test_a_public_address_without_users_is_refused():
    ended = run("--host", "0.0.0.0", "--port", "1")
    assert ended.returncode == 2 and "HRN_OPT_USERS" in ended.stderr and "Traceback" not in ended.stderr


def test_wrong_settings_are_told_together():
    ended = run("--port", "99999", HRN_OPT_KEPT_S="inf", HRN_OPT_MODEL="nope", HRN_OPT_MOST_JOB="3")
    assert ended.returncode == 2 and "Traceback" not in ended.stderr
    for name in ("--port", "--kept-s", "--model", "HRN_OPT_MOST_JOBS"):
        assert name in ended.stderr


def test_a_port_in_use_is_a_sentence(server):
    port = server.rpartition(":")[2]
    ended = run("--port", port)
    assert ended.returncode == 1 and "try another --port" in ended.stderr and "Traceback" not in ended.stderr


def test_a_folder_that_cannot_be_written_is_a_sentence(tmp_path):
    ended = run("--port", "18999", TMPDIR=str(tmp_path / "gone"))
    assert ended.returncode == 2 and "TMPDIR" in ended.stderr and "Traceback" not in ended.stderr


def test_the_server_itself_needs_no_torch():
    """It would take 200 MB and a second of every start; the model processes have it."""
    code = "import sys, hrn_opt.web.server; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=STARTS_WITHIN_S).returncode == 0


def test_a_proxy_in_the_environment_does_not_matter(tmp_path):
    proxies = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "ALL_PROXY"), "http://127.0.0.1:9")
    with serving(tmp_path, "--host", "0.0.0.0", "--public", **proxies) as served:
        assert (
            status(f"{served.address}/healthz", opener=urllib.request.build_opener(urllib.request.ProxyHandler({})))
            == 200
        )
