"""The page as a visitor meets it: a real Chromium, a real server, the embedded model."""

import io
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from PIL import Image

pytestmark = pytest.mark.browser

ROOT = Path(__file__).parent.parent.parent
STARTS_WITHIN_S = 90  # two busy cores and cold files; 6 s are usual
ANSWERS_WITHIN_MS = 60_000
PHONE, DESKTOP = {"width": 390, "height": 844}, {"width": 1440, "height": 900}


@pytest.fixture(scope="module")
def chromium():
    """A headless Chromium; without one the tests are skipped, but fail where CI says it must be there."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("no Chromium: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Address of a running page, and the folder that holds its temporary files."""
    temporary = tmp_path_factory.mktemp("page")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = (temporary / "server.log").open("w+")
    environment = {**os.environ, "TMPDIR": str(temporary)}
    process = subprocess.Popen(
        [sys.executable, "app.py", "--port", str(port)], cwd=ROOT, env=environment, stdout=log, stderr=log
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


@pytest.fixture
def open_page(chromium, server):
    """Opens the page at a size; afterwards nothing may have been asked of another machine."""
    contexts, hosts = [], set()

    def open_at(viewport):
        context = chromium.new_context(viewport=viewport, accept_downloads=True)
        context.set_default_timeout(ANSWERS_WITHIN_MS)
        contexts.append(context)
        page = context.new_page()
        page.on("request", lambda request: hosts.add(urlsplit(request.url).hostname))
        page.goto(server[0])
        page.get_by_role("button", name="Create").wait_for()
        return page

    yield open_at
    for context in contexts:
        context.close()
    assert hosts <= {"127.0.0.1", None}, hosts  # None: data: and blob: addresses


def give(page, photo):
    """Chooses a photo and waits until its upload has ended."""
    with page.expect_response(lambda response: "/upload" in response.url):
        page.locator("#photo input[type=file]").set_input_files(str(photo))
    page.locator("#photo img").first.wait_for(state="attached")


def create(page):
    page.get_by_role("button", name="Create").click()


def pixels_of(element):
    """An RGB picture of what a person sees there."""
    return Image.open(io.BytesIO(element.screenshot())).convert("RGB")


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_a_photo_becomes_a_texture_and_a_3d_view(open_page, example_photo, viewport):
    page = open_page(viewport)
    give(page, example_photo)
    create(page)
    page.get_by_text("Done in").wait_for()
    texture = page.locator("#texture img")
    texture.wait_for()
    page.wait_for_function("document.querySelector('#texture img').naturalWidth === 1024")
    canvas = page.locator("#scene canvas")
    canvas.scroll_into_view_if_needed()
    _wait_for_picture(page, canvas)
    assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]  # nothing hangs over the side


def _wait_for_picture(page, canvas, wait_s=20):
    """The 3D view shows many colours; an empty one has a single colour, and its frame and buttons some dozens."""
    until = time.monotonic() + wait_s
    while time.monotonic() < until:
        colours = pixels_of(canvas).getcolors(maxcolors=1 << 20)
        if len(colours) > 1000:
            return
        page.wait_for_timeout(300)
    pytest.fail(f"the 3D view stayed empty ({len(colours)} colours)")


@pytest.mark.parametrize(
    ("button", "name", "magic"),
    [("Texture", "astronaut.png", b"\x89PNG"), ("GLB", "astronaut.glb", b"glTF"), ("OBJ", "astronaut.zip", b"PK")],
)
def test_downloads(open_page, example_photo, button, name, magic):
    page = open_page(DESKTOP)
    give(page, example_photo)
    create(page)
    page.get_by_text("Done in").wait_for()
    with page.expect_download() as download:
        page.get_by_role("button", name=button, exact=True).or_(
            page.get_by_role("link", name=button, exact=True)
        ).click()
    assert download.value.suggested_filename == name
    assert Path(download.value.path()).read_bytes().startswith(magic)


def test_a_text_file_gets_a_clear_sentence(open_page, tmp_path):
    not_a_photo = tmp_path / "holiday.jpg"
    not_a_photo.write_text("Dear diary")
    page = open_page(DESKTOP)
    give(page, not_a_photo)
    create(page)
    note = page.locator(".note.failed")
    note.wait_for()
    assert note.inner_text().startswith("holiday.jpg is not a picture")
    assert "Traceback" not in page.content() and str(ROOT) not in page.content()
    assert page.get_by_role("button", name="Cancel").is_disabled()


def test_no_photo_gets_a_clear_sentence(open_page):
    page = open_page(DESKTOP)
    create(page)
    page.locator(".note.failed", has_text="There is no photo yet").wait_for()


def test_leaving_deletes_what_was_made(open_page, server, example_photo):
    page = open_page(DESKTOP)
    give(page, example_photo)
    create(page)
    page.get_by_text("Done in").wait_for()
    assert list(server[1].glob("hrn_opt_*/*/astronaut.glb"))
    page.close()
    until = time.monotonic() + 20
    while list(server[1].glob("hrn_opt_*/*/astronaut.glb")) and time.monotonic() < until:
        time.sleep(0.2)
    assert not list(server[1].glob("hrn_opt_*/*/astronaut.glb"))


def test_the_server_fetches_nothing_for_others(open_page, server):
    page = open_page(DESKTOP)
    for route in ("file=http://127.0.0.1:9/x", "proxy=http://127.0.0.1:9/x"):
        assert page.request.get(f"{server[0]}/gradio_api/{route}").status == 403
