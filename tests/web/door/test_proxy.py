"""The page below a path of another server: nginx passes it on whole, or takes its own part off first.

Who is told the root path: the guard alone (`Guard(root_path="/faces")`), not uvicorn and not `mount_gradio_app`. The
guard puts the path back where the proxy took it off and tells the app in the scope, as ASGI has it; Gradio 6.31,
mounted at "/", then builds its addresses from the scope and the Host. With uvicorn's own root_path, a proxy that takes
nothing off gets 404 for everything. A proxy that changes the Host must send X-Forwarded-Host.
"""

import json
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from testing.guarded_page import STEP_S, STEPS, free_port, guarded_page

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(NGINX is None, reason="nginx is not installed (nginx-light)")]

CONFIGURATION = """
daemon off; master_process off; error_log stderr; pid {folder}/pid;
events {{ worker_connections 64; }}
http {{
  access_log off; client_max_body_size 70m;
  client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  server {{ listen 127.0.0.1:{port}; location /faces/ {{ proxy_pass http://127.0.0.1:{page_port}{path}; {headers} }} }}
}}
"""
KINDS = {
    "takes the path off": ("/", "proxy_set_header Host $http_host;"),
    "passes the path on": ("", "proxy_set_header Host $http_host; proxy_http_version 1.1;"),
    "changes the host": ("/", "proxy_set_header X-Forwarded-Host $http_host;"),
}


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    with guarded_page(tmp_path_factory.mktemp("page"), "--root-path=/faces") as page:
        yield page


@pytest.fixture(params=KINDS)
def address(request, page, tmp_path):
    """The page's address behind nginx."""
    path, headers = KINDS[request.param]
    port = free_port()
    values = {"folder": tmp_path, "port": port, "page_port": page.port, "path": path, "headers": headers}
    (tmp_path / "nginx.conf").write_text(CONFIGURATION.format(**values))
    command = [NGINX, "-c", tmp_path / "nginx.conf", "-e", tmp_path / "errors"]
    with (tmp_path / "log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        address = f"http://127.0.0.1:{port}/faces/"
        until_s = time.monotonic() + 30
        while status(address) != 200:
            assert process.poll() is None and time.monotonic() < until_s, (tmp_path / "log").read_text()
            time.sleep(0.1)
        yield address
        process.terminate()


def status(address):
    try:
        with urllib.request.urlopen(address, timeout=60) as response:
            response.read()
            return response.status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def text_of(address, body=None, headers=()):
    with urllib.request.urlopen(urllib.request.Request(address, body, dict(headers)), timeout=60) as response:
        return response.read().decode()


def test_every_file_of_the_page_is_found(address):
    html = text_of(address)
    assets = set(re.findall(r'(?:src|href)="\./([^"]+)"', html))
    assert assets and all(status(address + one) == 200 for one in assets)
    assert json.loads(text_of(address + "config"))["root"] == address.rstrip("/")
    for own in ("theme.css", "gradio_api/info", "static/js/iframeResizer.contentWindow.min.js"):
        assert status(address + own) == 200
    assert status(address.rstrip("/")) == 200  # after a redirection
    assert status(address + "gradio_api/token") == 404


def test_a_photo_goes_through_upload_queue_events_and_file(address, example_photo, tmp_path):
    gradio_client = pytest.importorskip("gradio_client")
    client = gradio_client.Client(address, verbose=False, download_files=str(tmp_path / "got"))
    try:
        got = client.predict(gradio_client.handle_file(example_photo), api_name="/create")
    finally:
        client.close()
    assert Path(got).suffix and Path(got).stat().st_size > 10_000


def test_events_come_one_by_one(address, page, example_photo):
    """nginx collects an answer to its end, unless it is told otherwise."""
    photo = page.uploads / "given" / "me.jpg"
    photo.parent.mkdir(exist_ok=True)
    shutil.copy(example_photo, photo)
    body = json.dumps({"data": [{"path": str(photo), "meta": {"_type": "gradio.FileData"}}]}).encode()
    began = json.loads(text_of(address + "gradio_api/call/create", body, {"Content-Type": "application/json"}.items()))
    came_s = []
    with urllib.request.urlopen(address + "gradio_api/call/create/" + began["event_id"], timeout=60) as events:
        came_s.extend(time.monotonic() for line in events if line.startswith(b"event:"))
    assert len(came_s) >= STEPS and came_s[-1] - came_s[0] > STEP_S
