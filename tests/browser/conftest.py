"""A real Chromium and a real server, the embedded model in it."""

import os
import shutil
from urllib.parse import urlsplit

import pytest

from tests.browser.visits import ANSWERS_WITHIN_MS, serving


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
