"""deploy/nginx.conf as it lies there, before the real server; only name, ports, files and sub-path are replaced."""

import json
import re
import shutil
import ssl
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import httpx
import pytest

from testing.guarded_page import free_port
from tests.browser.visits import ROOT, serving

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
OPENSSL = shutil.which("openssl")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(NGINX is None, reason="nginx is not installed (nginx-light)"),
    pytest.mark.skipif(OPENSSL is None, reason="openssl is not installed"),
]

VISITOR, FORGED = "127.0.0.2", "203.0.113.9"
AROUND = """
daemon off; master_process off; error_log stderr; pid {folder}/pid;
events {{ worker_connections 64; }}
http {{
  access_log off;
  client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  include {folder}/hrn-opt.conf;
}}
"""


class Site(NamedTuple):
    """The page behind nginx.

    log: of the server.
    """

    client: httpx.Client
    http_port: int
    log: Path


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    options = ("--root-path", "/faces", "--trusted-proxies", "127.0.0.1", "--hosts", "localhost", "--concurrency", "1")
    with serving(folder, *options) as served, proxied(tmp_path_factory.mktemp("nginx"), served) as (ports, trust):
        transport = httpx.HTTPTransport(verify=trust, local_address=VISITOR)
        base = f"https://localhost:{ports[1]}/faces"
        headers = {"X-Forwarded-For": FORGED, "X-Forwarded-Host": "elsewhere.example"}
        with httpx.Client(transport=transport, base_url=base, headers=headers, timeout=60) as client:
            yield Site(client, ports[0], folder / "server.log")


@contextmanager
def proxied(folder, served):
    """nginx's ports for HTTP and HTTPS, and what trusts its certificate."""
    make = ("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost")
    files = ("-keyout", folder / "privkey.pem", "-out", folder / "fullchain.pem")
    subprocess.run([OPENSSL, *make, "-addext", "subjectAltName=DNS:localhost", *files], check=True, capture_output=True)
    ports = free_port(), free_port()
    text = (ROOT / "deploy/nginx.conf").read_text()
    for ours, here in (
        ("faces.example;", "localhost;"),
        ("listen 80;", f"listen 127.0.0.1:{ports[0]};"),
        ("listen 443 ssl;", f"listen 127.0.0.1:{ports[1]} ssl;"),
        ("/etc/ssl/faces.example/", f"{folder}/"),
        ("proxy_pass http://127.0.0.1:8080;", f"proxy_pass {served.address};"),
        ("location / {", "location /faces/ {"),
    ):
        assert ours in text
        text = text.replace(ours, here)
    (folder / "hrn-opt.conf").write_text(text)
    (folder / "nginx.conf").write_text(AROUND.format(folder=folder))
    command = [NGINX, "-c", folder / "nginx.conf", "-e", folder / "errors"]
    with (folder / "log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            until_s = time.monotonic() + 30
            while not (folder / "pid").exists() or not (folder / "pid").read_text():
                assert process.poll() is None and time.monotonic() < until_s, (folder / "log").read_text()
                time.sleep(0.05)
            yield ports, ssl.create_default_context(cafile=folder / "fullchain.pem")
        finally:
            process.terminate()


def test_the_page_and_its_files_come_with_the_headers_of_a_page_behind_tls(site):
    page = site.client.get("/")
    assert page.status_code == 200
    (cookie,) = page.headers.get_list("set-cookie")
    assert "Secure" in cookie and "Path=/faces" in cookie
    assets = set(re.findall(r'(?:src|href)="\./([^"]+)"', page.text))
    assert assets and all(site.client.get(one).status_code == 200 for one in assets)
    assert site.client.get("config").json()["root"] == str(site.client.base_url).rstrip("/")
    assert site.client.get("/api/v1/docs").status_code == 200


def test_plain_http_and_a_missing_slash_lead_to_the_page(site):
    asked = httpx.get(f"http://localhost:{site.http_port}/faces/")
    assert asked.status_code == 301 and urlsplit(asked.headers["location"])[:3] == ("https", "localhost", "/faces/")
    bare = site.client.get(str(site.client.base_url).rstrip("/"))
    assert bare.status_code in (301, 308) and urlsplit(bare.headers["location"]).path == "/faces/"


def test_a_photo_is_uploaded_and_read_again(site, example_photo):
    site.client.get("/")  # for the cookie, whose the photo is
    content = example_photo.read_bytes()
    (path,) = site.client.post("/gradio_api/upload", files={"files": ("me.jpg", content)}).json()
    got = site.client.get(f"/gradio_api/file={path}")
    assert got.status_code == 200 and got.content == content


def test_a_program_gets_its_face(site, example_photo):
    answer = site.client.post("/api/v1/faces", files={"photo": ("me.jpg", example_photo.read_bytes())})
    assert answer.status_code == 200 and answer.content[:4] == b"glTF"


def test_progress_comes_as_it_happens_and_leads_to_the_file(site, example_photo):
    """Were it collected, the stages would come together, in less time than they took."""
    photo, told = {"photo": ("me.jpg", example_photo.read_bytes())}, []
    with site.client.stream("POST", "/api/v1/faces", files=photo, headers={"Accept": "text/event-stream"}) as answer:
        for line in answer.iter_lines():
            if line.startswith("data: "):
                told.append((time.monotonic(), json.loads(line.removeprefix("data: "))))
    stages = [(came_s, data["seconds"]) for came_s, data in told if "stage" in data]
    took_s = sum(seconds for _, seconds in stages[1:])
    assert stages[-1][0] - stages[0][0] > took_s / 2
    file = site.client.get(told[-1][1]["url"].removeprefix("/faces"))
    assert file.status_code == 200 and file.content[:4] == b"glTF"


def test_the_log_knows_the_visitor_s_own_address(site):
    site.client.get("/version")
    until_s = time.monotonic() + 30  # a line is written when its answer has been sent
    while not (lines := re.findall(r".*route=/version .*", site.log.read_text())):
        assert time.monotonic() < until_s
        time.sleep(0.05)
    assert f"address={VISITOR}" in lines[-1] and FORGED not in site.log.read_text()


def test_too_large_an_upload_is_refused_before_it_reaches_the_page(site):
    answer = site.client.post("/gradio_api/upload", content=bytes(70 << 20))
    assert answer.status_code == 413 and "nginx" in answer.text
