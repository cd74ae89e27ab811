"""Make the README's pictures of the page: its result, and a sheet of all its states, on a desktop and on a phone.

    python app.py --port 8099 --most-jobs 2 &
    python tools/page_pictures.py http://127.0.0.1:8099

Needs playwright and a Chromium.
"""

from __future__ import annotations

import argparse
import io
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont
from playwright.sync_api import Browser, Page, sync_playwright

ROOT = Path(__file__).resolve().parents[1]
PHOTO = ROOT / "examples" / "astronaut.jpg"
FACE_BOX = (120, 20, 340, 300)
VIEWER_DRAWS_MS = 4000
SETTLES_MS = 700
SHEET_WIDTH_PX, CAPTION_PX = 1680, 26


@dataclass(frozen=True)
class Device:
    """columns: of its sheet."""

    name: str
    width: int
    height: int
    locale: str
    scheme: str
    columns: int


DEVICES = (
    Device("desktop", 1440, 900, "en-US", "light", 3),
    Device("phone", 390, 844, "zh-CN", "dark", 7),
)


class Visit:
    """A visitor's page, and pictures of it."""

    def __init__(self, browser: Browser, address: str, device: Device):
        self._context = browser.new_context(
            viewport={"width": device.width, "height": device.height},
            locale=device.locale,
            color_scheme=device.scheme,
        )
        self.page: Page = self._context.new_page()
        self.page.goto(address)
        self.page.locator("#create").wait_for()

    def picture(self, settles_ms: int = SETTLES_MS) -> Image.Image:
        self.page.wait_for_timeout(settles_ms)
        return Image.open(io.BytesIO(self.page.screenshot())).convert("RGB")

    def give(self, photo: Path) -> None:
        self.page.locator("#photo input[type=file]").set_input_files(str(photo))

    def give_and_find(self, photo: Path) -> None:
        self.give(photo)
        self.page.locator("#outlined img").wait_for()

    def choose_everything(self) -> None:
        """The longest run."""
        self.page.locator("#choices button").first.click()
        self.page.locator("#texture-size label").last.click()
        self.page.locator("#want label").last.click()
        self.page.locator("#choices button").first.click()

    def create(self) -> None:
        self.page.locator("#create").click()

    def wait_for_stages(self, count: int) -> None:
        self.page.locator(".stages .done").nth(count - 1).wait_for()

    def create_all(self) -> None:
        self.create()
        self.page.locator("#get-texture:enabled").wait_for()
        self.page.locator("#scene canvas").wait_for(state="attached")

    def open_tab(self, number: int) -> None:
        self.page.locator("#results button[role=tab]:visible").nth(number).click()

    def close(self) -> None:
        self._context.close()


def states(browser: Browser, address: str, device: Device, group: Path) -> Iterator[tuple[str, Image.Image]]:
    """What a visitor may see, with a name each."""

    def visit() -> Visit:
        return Visit(browser, address, device)

    yield from _before_create(visit, group)
    yield from _at_work(visit)
    yield from _results(visit)


def _before_create(visit: Callable[[], Visit], group: Path) -> Iterator[tuple[str, Image.Image]]:
    first = visit()
    yield "At first", first.picture()
    first.page.locator("#choices button").first.click()
    yield "The choices", first.picture()
    first.page.locator("#choices button").first.click()
    with tempfile.TemporaryDirectory() as folder:
        letter = Path(folder) / "letter.jpg"
        letter.write_text("Dear diary")
        first.give(letter)
        first.page.locator(".note.failed").wait_for()
        yield "No picture", first.picture()
    first.close()

    several = visit()
    several.give_and_find(group)
    several.page.locator("#face label").nth(1).click()
    yield "Several faces, the second chosen", several.picture()
    several.close()


def _at_work(visit: Callable[[], Visit]) -> Iterator[tuple[str, Image.Image]]:
    busy, waiting, late = visit(), visit(), visit()
    for one in (busy, waiting, late):
        one.give_and_find(PHOTO)
    busy.choose_everything()
    busy.create()
    busy.wait_for_stages(3)
    yield "At work", busy.picture(settles_ms=0)
    waiting.create()
    yield "Waiting", waiting.picture()
    late.create()
    late.page.locator(".note.failed").wait_for()
    yield "Too many wait", late.picture()
    busy.page.locator("#cancel").click()
    yield "Stopped", busy.picture()
    for one in (busy, waiting, late):
        one.close()


def _results(visit: Callable[[], Visit]) -> Iterator[tuple[str, Image.Image]]:
    done = visit()
    done.give_and_find(PHOTO)
    done.create_all()
    yield "The face in 3D", done.picture(VIEWER_DRAWS_MS)
    done.page.locator("#surface label").last.click()
    yield "As clay", done.picture(VIEWER_DRAWS_MS)
    for number, name in ((1, "Its texture"), (2, "Over the photo"), (3, "What it took")):
        done.open_tab(number)
        yield name, done.picture()
    done.close()

    turning = visit()
    turning.give_and_find(PHOTO)
    turning.choose_everything()
    turning.create_all()
    turning.open_tab(3)
    turning.page.locator("#turntable img").wait_for()
    yield "Turning", turning.picture()
    turning.close()


def group_photo() -> Image.Image:
    """The example's face three times, in three sizes."""
    face = Image.open(PHOTO).convert("RGB").crop(FACE_BOX)
    picture = Image.new("RGB", (1000, 500), (140, 150, 160))
    for width, place in ((330, (40, 40)), (240, (430, 100)), (165, (760, 160))):
        picture.paste(face.resize((width, width * face.height // face.width)), place)
    return picture


def sheet(pictures: list[tuple[str, Image.Image]], columns: int) -> Image.Image:
    """The pictures in rows, their names above them."""
    width = SHEET_WIDTH_PX // columns
    first = pictures[0][1]
    height = width * first.height // first.width
    rows = -(-len(pictures) // columns)
    canvas = Image.new("RGB", (width * columns, (height + CAPTION_PX) * rows), "white")
    draw = ImageDraw.Draw(canvas)
    for number, (name, picture) in enumerate(pictures):
        left, top = width * (number % columns), (height + CAPTION_PX) * (number // columns)
        draw.text((left + 6, top + 5), name, "black", ImageFont.load_default(14))
        canvas.paste(picture.resize((width - 8, height - 8), Image.Resampling.LANCZOS), (left + 4, top + CAPTION_PX))
    return canvas


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("address")
    address = parser.parse_args().address
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        group = Path(folder) / "group.jpg"
        group_photo().save(group, quality=95)
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for device in DEVICES:
            pictures = list(states(browser, address, device, group))
            dict(pictures)["The face in 3D"].save(ROOT / "docs" / f"page-{device.name}.png", optimize=True)
            sheet(pictures, device.columns).save(ROOT / "docs" / f"states-{device.name}.jpg", quality=85)
        browser.close()


if __name__ == "__main__":
    main()
