"""Make the README's pictures of the page: docs/page-desktop.png and docs/page-phone.png.

    python app.py --port 8099 &
    python tools/page_pictures.py http://127.0.0.1:8099

Needs playwright and a Chromium.
"""

from __future__ import annotations

import argparse
import shutil
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

ROOT = Path(__file__).resolve().parents[1]
PHOTO = ROOT / "examples" / "astronaut.jpg"
VIEWER_DRAWS_MS = 4000


@dataclass(frozen=True)
class Shot:
    name: str
    width: int
    height: int
    locale: str
    scheme: str


SHOTS = (
    Shot("page-desktop", 1440, 960, "en-US", "light"),
    Shot("page-phone", 390, 844, "zh-CN", "dark"),
)


def take(browser: Browser, address: str, shot: Shot) -> None:
    """A photo on its way through the page, pictured when its face is there."""
    context = browser.new_context(
        viewport={"width": shot.width, "height": shot.height}, locale=shot.locale, color_scheme=shot.scheme
    )
    page = context.new_page()
    page.goto(address)
    page.locator("#photo input[type=file]").set_input_files(str(PHOTO))
    page.locator("#outlined img").wait_for()
    page.locator("#create").click()
    canvas = page.locator("#scene canvas")
    canvas.wait_for(state="attached")
    if shot.width < 600:
        page.locator("#progress").evaluate("it => it.scrollIntoView({block: 'start'})")
    page.wait_for_timeout(VIEWER_DRAWS_MS)
    page.screenshot(path=ROOT / "docs" / f"{shot.name}.png")
    context.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("address")
    address = parser.parse_args().address
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for shot in SHOTS:
            take(browser, address, shot)
        browser.close()


if __name__ == "__main__":
    main()
