"""A photo of several faces on the page: each can be chosen, and all at once."""

import time
import zipfile

import pytest
from PIL import Image

from tests.browser.visits import (
    DESKTOP,
    GIVES_UP_AFTER_S,
    create,
    give,
)

pytestmark = pytest.mark.browser


def _texture_colour(page):
    """Mean red and blue of the texture that is offered."""
    with page.expect_download() as download:
        page.locator("#get-texture").click()
    name = download.value.suggested_filename
    red, _, blue = (
        Image.open(download.value.path()).convert("RGB").resize((1, 1), Image.Resampling.BOX).getpixel((0, 0))
    )
    return name, red, blue


def test_the_second_face_is_the_second_face(open_page, group_photo):
    page = open_page(DESKTOP)
    give(page, group_photo)
    page.locator("#face label").nth(3).wait_for()
    assert page.locator("#face label").all_inner_texts() == ["1", "2", "3", "All"]
    page.locator("#face label").nth(1).click()
    create(page)
    page.get_by_text("Done in").wait_for()
    _, red, blue = _texture_colour(page)
    assert blue > red


def test_a_face_is_picked_on_the_picture(open_page, group_photo):
    page = open_page(DESKTOP)
    give(page, group_photo)
    picture = page.locator("#outlined img")
    page.locator("#face label").nth(3).wait_for()
    box = picture.bounding_box()
    shown_width = min(box["width"], box["height"] * 2)  # 1000 × 500, fitted into the box
    left, top = box["x"] + (box["width"] - shown_width) / 2, box["y"] + (box["height"] - shown_width / 2) / 2
    page.mouse.click(left + 550 / 1000 * shown_width, top + 250 / 1000 * shown_width)
    page.locator("#face input:checked[value='2']").wait_for(state="attached")
    page.locator("#face label.selected", has_text="2").wait_for()


def test_all_faces_at_once(open_page, group_photo):
    page = open_page(DESKTOP)
    give(page, group_photo)
    page.locator("#face label").nth(3).click()
    create(page)
    page.get_by_text("Done in").wait_for()
    page.locator("#shown-face label").nth(2).wait_for()
    name, red, blue = _texture_colour(page)
    assert name == "group-face1.png" and red > blue
    page.locator("#shown-face label").nth(1).click()
    gives_up_at = time.monotonic() + GIVES_UP_AFTER_S
    while name == "group-face1.png" and time.monotonic() < gives_up_at:
        name, red, blue = _texture_colour(page)
    assert name == "group-face2.png" and blue > red
    with page.expect_download() as download:
        page.locator("#get-everything").click()
    assert download.value.suggested_filename == "group.everything.zip"
    files = zipfile.ZipFile(download.value.path()).namelist()
    assert {"face1/group-face1.glb", "face2/group-face2.png", "face3/group-face3.obj"} <= set(files)
