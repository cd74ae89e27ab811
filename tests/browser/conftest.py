"""A real Chromium and a real server, the embedded model in it."""

import os
import shutil
from urllib.parse import urlsplit

import pytest
from PIL import Image, ImageChops, ImageOps

from tests.browser.visits import (
    ANSWERS_WITHIN_MS,
    serving,
)


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
    """A running page."""
    with serving(tmp_path_factory.mktemp("page")) as served:
        yield served


@pytest.fixture
def open_page(chromium, server):
    """Opens the page at a size; afterwards nothing may have been asked of another machine."""
    contexts, hosts = [], set()

    def open_at(viewport, address=server.address, **options):
        context = chromium.new_context(**{"viewport": viewport, "accept_downloads": True, "locale": "en-US", **options})
        context.set_default_timeout(ANSWERS_WITHIN_MS)
        contexts.append(context)
        page = context.new_page()
        page.on("request", lambda request: hosts.add(urlsplit(request.url).hostname))
        page.goto(address)
        page.locator("#create").wait_for()
        return page

    yield open_at
    for context in contexts:
        context.close()
    assert hosts <= {"127.0.0.1", None}, hosts  # None: data: and blob: addresses


@pytest.fixture(scope="module")
def group_photo(example_photo, tmp_path_factory):
    """The example's face three times, each smaller than the one before; the second one is mirrored and blue."""
    face = Image.open(example_photo).convert("RGB").crop((120, 20, 340, 300))
    blue = ImageOps.mirror(ImageChops.multiply(face, Image.new("RGB", face.size, (110, 150, 255))))
    picture = Image.new("RGB", (1000, 500), (140, 150, 160))
    for one, width, place in ((face, 330, (40, 40)), (blue, 240, (430, 100)), (face, 165, (760, 160))):
        picture.paste(one.resize((width, width * 14 // 11)), place)
    path = tmp_path_factory.mktemp("group") / "group.jpg"
    picture.save(path, quality=95)
    return path
