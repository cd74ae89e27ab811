"""The page as a visitor meets it: a real Chromium, a real server, the embedded model."""

import time
from pathlib import Path

import pillow_heif
import pytest
from PIL import Image, ImageChops

from tests.browser.visits import (
    DESKTOP,
    GIVES_UP_AFTER_S,
    PHONE,
    ROOT,
    create,
    give,
    pixels_of,
    show_tab,
)

pytestmark = pytest.mark.browser


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_a_photo_becomes_a_texture_and_a_3d_view(open_page, example_photo, viewport):
    page = open_page(viewport)
    give(page, example_photo)
    create(page)
    page.get_by_text("Done in").wait_for()
    canvas = page.locator("#scene canvas")
    canvas.scroll_into_view_if_needed()
    _wait_for_picture(page, canvas)
    _fills_the_viewer(pixels_of(canvas))
    show_tab(page, "Texture")
    page.wait_for_function("document.querySelector('#texture img')?.naturalWidth === 1024")
    show_tab(page, "Overlay")
    assert page.locator("#compare img").count() >= 2
    assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]  # nothing hangs over the side


def _fills_the_viewer(picture):
    """The face takes most of the height, and stands in the middle."""
    ground = picture.getpixel((5, picture.height - 5))
    different = (
        ImageChops.difference(picture, Image.new("RGB", picture.size, ground))
        .convert("L")
        .point(lambda v: 255 * (v > 24))
    )
    margin = picture.height // 8  # the viewer's buttons and label
    left, top, right, bottom = different.crop((0, margin, picture.width, picture.height)).getbbox()
    assert bottom - top > 0.55 * picture.height
    assert abs((left + right) / 2 - picture.width / 2) < 0.1 * picture.width


def _wait_for_picture(page, canvas):
    """The 3D view shows many colours; an empty one has a single colour, and its frame and buttons some dozens."""
    gives_up_at = time.monotonic() + GIVES_UP_AFTER_S
    while time.monotonic() < gives_up_at:
        colours = pixels_of(canvas).getcolors(maxcolors=1 << 20)
        if len(colours) > 1000:
            return
        page.wait_for_timeout(300)
    pytest.fail(f"the 3D view stayed empty ({len(colours)} colours)")


@pytest.mark.parametrize(
    ("button", "name", "magic"),
    [
        ("#get-texture", "astronaut.png", b"\x89PNG"),
        ("#get-scene", "astronaut.glb", b"glTF"),
        ("#get-obj", "astronaut.zip", b"PK"),
        ("#get-everything", "astronaut.everything.zip", b"PK"),
    ],
)
def test_downloads(open_page, example_photo, button, name, magic):
    page = open_page(DESKTOP)
    give(page, example_photo)
    create(page)
    page.get_by_text("Done in").wait_for()
    with page.expect_download() as download:
        page.locator(button).click()
    assert download.value.suggested_filename == name
    assert Path(download.value.path()).read_bytes().startswith(magic)


def test_a_text_file_gets_a_clear_sentence(open_page, tmp_path):
    not_a_photo = tmp_path / "holiday.jpg"
    not_a_photo.write_text("Dear diary")
    page = open_page(DESKTOP)
    page.locator("#photo input[type=file]").set_input_files(str(not_a_photo))
    note = page.locator(".note.failed")
    note.wait_for()
    page.locator("#photo img").wait_for(state="detached")  # nothing broken is left in the box
    page.wait_for_timeout(500)
    assert note.inner_text().startswith("holiday.jpg is not a picture")
    assert "Traceback" not in page.content() and str(ROOT) not in page.content()
    page.locator("#cancel:disabled").wait_for()


def test_an_iphone_s_photo_is_offered_and_taken(open_page, example_photo, tmp_path):
    photo = tmp_path / "IMG_0001.HEIC"
    pillow_heif.from_pillow(Image.open(example_photo)).save(photo, quality=90)
    page = open_page(DESKTOP)
    page.wait_for_function("document.querySelector('#photo input[type=file]').accept.includes('.heic')")
    page.locator("#photo input[type=file]").set_input_files(str(photo))
    page.locator("#outlined img").wait_for()
    page.get_by_text("One face found").wait_for()


def test_a_photo_without_a_face_stays_until_it_is_taken_away(open_page, tmp_path):
    wall = tmp_path / "wall.png"
    Image.new("RGB", (320, 320), "tan").save(wall)
    page = open_page(DESKTOP)
    give(page, wall)
    page.locator(".note.failed").wait_for()
    page.locator("#photo img").wait_for()
    page.locator("#photo").get_by_label("Remove Image").click()
    page.locator("#progress", has_text="Drop a photo").wait_for()


def test_results_come_into_sight_on_a_phone(open_page, example_photo):
    page = open_page(PHONE)
    give(page, example_photo)
    create(page)
    page.get_by_text("Done in").wait_for()
    page.wait_for_function("document.querySelector('#results').getBoundingClientRect().top < innerHeight / 3")


def test_no_photo_gets_a_clear_sentence(open_page):
    page = open_page(DESKTOP)
    create(page)
    page.locator(".note.failed", has_text="There is no photo yet").wait_for()


def test_leaving_deletes_what_was_made(open_page, server, example_photo):
    page = open_page(DESKTOP)
    give(page, example_photo)
    create(page)
    page.get_by_text("Done in").wait_for()

    def left():
        return [
            list(server.folder.glob(f"hrn_opt_*/{kind}"))
            for kind in ("files/*/*/astronaut.glb", "files/*/outlined.jpg")
        ]

    assert all(left())
    page.close()
    gives_up_at = time.monotonic() + GIVES_UP_AFTER_S
    while any(left()) and time.monotonic() < gives_up_at:
        time.sleep(0.2)
    assert not any(left())


def test_the_server_fetches_nothing_for_others(open_page, server):
    page = open_page(DESKTOP)
    for route in ("file=http://127.0.0.1:9/x", "proxy=http://127.0.0.1:9/x"):
        assert page.request.get(f"{server.address}/gradio_api/{route}").status == 404


def test_a_chinese_browser_gets_a_chinese_page(open_page, example_photo, tmp_path):
    page = open_page(DESKTOP, locale="zh-CN")
    page.get_by_text("照片变三维人脸").wait_for()
    page.locator("#progress", has_text="请拖入").wait_for()
    give(page, example_photo)
    page.locator("#create", has_text="生成").click()
    page.get_by_text("完成，用时").wait_for()
    assert page.get_by_role("tab", name="用时").count() and page.locator("#get-everything", has_text="全部").count()
    text = page.locator(".gradio-container").inner_text()
    for english in ("Create", "Cancel", "Texture", "Which", "Find the face", "Surface", "Choices"):
        assert english not in text, english
    not_a_photo = tmp_path / "diary.jpg"
    not_a_photo.write_text("Dear diary")
    page = open_page(DESKTOP, locale="zh-CN")
    page.locator("#photo input[type=file]").set_input_files(str(not_a_photo))
    page.locator(".note.failed", has_text="不是可识别的图片").wait_for()


KEPT = "localStorage.getItem('hrn_opt.choices')"


KEPT_ANEW = f"before => {KEPT} !== before"


def test_the_choices_come_back(open_page):
    page = open_page(DESKTOP)
    page.locator("#choices button").first.click()
    page.locator("#texture-size label", has_text="512").click()
    page.wait_for_function(KEPT_ANEW, arg=None)
    kept = page.evaluate(KEPT)
    page.locator("#want label", has_text="Texture only").click()
    page.wait_for_function(KEPT_ANEW, arg=kept)
    page.reload()
    page.locator("#create").wait_for()
    page.locator("#choices button").first.click()
    page.locator("#texture-size label.selected", has_text="512").wait_for()
    page.locator("#want label.selected", has_text="Texture only").wait_for()


def test_the_texture_alone_has_no_mesh(open_page, example_photo):
    page = open_page(DESKTOP)
    page.locator("#choices button").first.click()
    page.locator("#want label", has_text="Texture only").click()
    give(page, example_photo)
    create(page)
    page.get_by_text("Done in").wait_for()
    page.locator("#get-texture:enabled").wait_for()
    assert page.locator("#get-scene").is_disabled()


def test_keyboard_reaches_everything(open_page):
    page = open_page(DESKTOP)
    page.locator("#choices button").first.click()
    wanted = {"photo", "create", "choices", "model", "texture-size", "want", "precision", "surface"}
    reached = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        inside = "for (let e = document.activeElement; e; e = e.parentElement) if (e.id) ids.push(e.id);"
        reached |= set(page.evaluate(f"(() => {{ const ids = []; {inside} return ids; }})()"))
    assert wanted <= reached, wanted - reached


NAMELESS = """l => l.filter(e => !(e.innerText || '').trim() && !e.ariaLabel && !e.title && !e.alt
    && !e.querySelector('img')?.alt).map(e => e.outerHTML.slice(0, 200))"""


def test_everything_has_a_name_and_nothing_leaves_the_machine(open_page, server, example_photo):
    page, asked = open_page(DESKTOP, locale="zh-CN"), []
    page.on("request", lambda request: asked.append(request.url))
    page.reload()
    page.locator("#create").wait_for()
    give(page, example_photo)
    page.locator("#outlined img").wait_for()
    create(page)
    page.locator("#get-texture:enabled").wait_for()
    page.locator('#scene canvas[aria-label="三维"][tabindex="0"]').wait_for()
    for tab in ("纹理", "叠加", "用时"):
        show_tab(page, tab)
        page.wait_for_timeout(500)
        for kind in ("img:visible", "button:visible", "canvas"):
            assert page.locator(kind).evaluate_all(NAMELESS) == [], (tab, kind)
    assert page.locator("#outlined img").get_attribute("alt") == "找到的人脸"
    assert all(url.startswith((server.address, "data:", "blob:")) for url in asked), asked
