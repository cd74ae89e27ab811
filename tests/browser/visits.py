"""What the browser tests share: a running page, and what a visitor does on it."""

import io
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import closing, contextmanager, suppress
from http.client import HTTPConnection
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest
from PIL import Image

ROOT = Path(__file__).parent.parent.parent
STARTS_WITHIN_S = 90  # two busy cores and cold files; 6 s are usual
ANSWERS_WITHIN_MS = 60_000
GIVES_UP_AFTER_S = 120
PHONE, DESKTOP = {"width": 390, "height": 844}, {"width": 1440, "height": 900}


class Served(NamedTuple):
    """folder: of its temporary files."""

    address: str
    folder: Path
    process: psutil.Process


@contextmanager
def serving(temporary, *flags, **variables):
    """A page run with these flags and environment."""
    port = free_port()
    log = (temporary / "server.log").open("w+")
    environment = {**os.environ, "TMPDIR": str(temporary), **variables}
    process = subprocess.Popen(
        [sys.executable, "app.py", "--port", str(port), *flags], cwd=ROOT, env=environment, stdout=log, stderr=log
    )
    try:
        _wait_until_it_serves(port, process, Path(log.name))
        yield Served(f"http://127.0.0.1:{port}", temporary, psutil.Process(process.pid))
        process.send_signal(signal.SIGTERM)
        assert process.wait(GIVES_UP_AFTER_S) == 0, "the server did not end well when told to"
        assert not list(temporary.glob("hrn_opt_*")), "the server left files behind"
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        log.close()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _wait_until_it_serves(port, process, log_path):
    """Its port is open before: whoever comes early waits there."""
    until = time.monotonic() + STARTS_WITHIN_S
    while time.monotonic() < until and process.poll() is None:
        with suppress(OSError), closing(HTTPConnection("127.0.0.1", port, timeout=STARTS_WITHIN_S)) as connection:
            connection.request("GET", "/healthz")
            if connection.getresponse().status == 200:
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


def want_everything(page, photo):
    """The photo is given, its faces are outlined, everything is asked for."""
    page.locator("#choices button").first.click()
    page.locator("#want label", has_text="Everything").click()
    give(page, photo)
    page.locator("#outlined img").wait_for()


def begin_turntable(page, photo):
    """Everything is asked for; the turntable, which takes longest by far, is being made."""
    want_everything(page, photo)
    create(page)
    page.locator(".stages .done", has_text="Unwrap").wait_for()


def work_until_free(page, served):
    """Seconds of processors that the server and its processes take until they have nothing to do for anybody."""
    before, gives_up_at = _work(served), time.monotonic() + GIVES_UP_AFTER_S
    while page.request.get(f"{served.address}/healthz").json()["jobs"]:
        assert time.monotonic() < gives_up_at, "the machine is still at work"
        page.wait_for_timeout(50)
    return _work(served) - before


def _work(served):
    every = [served.process, *served.process.children(recursive=True)]
    return sum(times.user + times.system for times in (one.cpu_times() for one in every))


def pixels_of(element):
    """An RGB picture of what a person sees there."""
    return Image.open(io.BytesIO(element.screenshot())).convert("RGB")
