"""What the browser tests share: a running page, and what a visitor does on it."""

import io
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parent.parent.parent
STARTS_WITHIN_S = 90  # two busy cores and cold files; 6 s are usual
ANSWERS_WITHIN_MS = 60_000
GIVES_UP_AFTER_S = 30
PHONE, DESKTOP = {"width": 390, "height": 844}, {"width": 1440, "height": 900}


@contextmanager
def serving(temporary, *flags, **variables):
    """Address of a page run with these flags and environment, and the folder that holds its temporary files."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = (temporary / "server.log").open("w+")
    environment = {**os.environ, "TMPDIR": str(temporary), **variables}
    process = subprocess.Popen(
        [sys.executable, "app.py", "--port", str(port), *flags], cwd=ROOT, env=environment, stdout=log, stderr=log
    )
    try:
        _wait_for_port(port, process, Path(log.name))
        yield f"http://127.0.0.1:{port}", temporary
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0, "the server did not end well when told to"
        assert not list(temporary.glob("hrn_opt_*")), "the server left files behind"
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        log.close()


def _wait_for_port(port, process, log_path):
    until = time.monotonic() + STARTS_WITHIN_S
    while time.monotonic() < until and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.2)
    pytest.fail(f"app.py did not serve:\n{log_path.read_text()}")


def show_tab(page, name):
    """Also where the row of tabs is too narrow for all of them."""
    tab = page.get_by_role("tab", name=name)
    if not tab.is_visible():
        page.locator(".overflow-menu button").first.click()
        tab = page.locator(".overflow-dropdown button", has_text=name)
    tab.click()


def give(page, photo):
    """Chooses a photo and waits until its upload has ended."""
    with page.expect_response(lambda response: "/upload" in response.url):
        page.locator("#photo input[type=file]").set_input_files(str(photo))
    page.locator("#photo img").first.wait_for(state="attached")


def create(page):
    page.locator("#create").click()


def begin_turntable(page, photo):
    """Everything is asked for; the turntable, which takes longest by far, is being made."""
    page.locator("#choices button").first.click()
    page.locator("#want label", has_text="Everything").click()
    give(page, photo)
    page.locator("#outlined img").wait_for()
    create(page)
    page.locator(".stages .done", has_text="Unwrap").wait_for()


def wait_until_free(page, address):
    """Seconds until the machine has nothing to do for anybody."""
    began = time.monotonic()
    while page.request.get(f"{address}/healthz").json()["jobs"]:
        assert time.monotonic() - began < GIVES_UP_AFTER_S, "the machine is still at work"
        page.wait_for_timeout(50)
    return time.monotonic() - began


def pixels_of(element):
    """An RGB picture of what a person sees there."""
    return Image.open(io.BytesIO(element.screenshot())).convert("RGB")
