"""Signing in and out in a real browser, and naming a run to the operator."""

import re

import pytest
from PIL import Image

from hrn_opt.web.door.access import hash_password
from tests.browser.visits import PHONE, create, give, serving

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def closed(tmp_path_factory):
    """A page below a sub-path with one user, ada."""
    users = f"ada:{hash_password('correct horse')}"
    options = ("--root-path", "/faces", "--concurrency", "1")
    with serving(tmp_path_factory.mktemp("closed"), *options, HRN_OPT_USERS=users) as served:
        yield served


@pytest.fixture
def page(chromium, closed):
    """On a phone, signed in."""
    with chromium.new_context(viewport=PHONE, locale="en-US") as context:
        page = context.new_page()
        page.goto(f"{closed.address}/faces/")
        page.fill("#name", "ada")
        page.fill("#password", "correct horse")
        page.click("button")
        page.locator("#create").wait_for()
        yield page


def test_who_has_signed_in_can_sign_out(page, closed):
    button = page.get_by_role("button", name="Sign out")
    button.wait_for()
    title = page.locator("h1").evaluate(
        "e => {const r = new Range(); r.selectNodeContents(e); return r.getBoundingClientRect().right}"
    )
    assert title < button.bounding_box()["x"]  # one does not lie over the other
    button.click()
    page.wait_for_url("**/faces/signin")
    page.goto(f"{closed.address}/faces/")
    assert page.url.endswith("/faces/signin")


def test_a_run_that_came_to_nothing_has_the_name_that_the_log_knows(page, closed, tmp_path):
    Image.new("RGB", (400, 400), (90, 120, 90)).save(tmp_path / "nobody.png")
    give(page, tmp_path / "nobody.png")
    page.get_by_text("No face found").wait_for()
    assert page.locator(".run").count() == 0  # nothing was to be made yet
    create(page)
    shown = page.locator(".run").inner_text()
    assert re.search(
        rf"run_id={shown.removeprefix('Run ')} .*outcome=refused", (closed.folder / "server.log").read_text()
    )


def test_a_page_without_users_has_nobody_to_sign_out(open_page, example_photo):
    page = open_page(PHONE)
    give(page, example_photo)
    page.locator("#outlined img").wait_for()  # by then the page has asked who is there
    assert not page.locator("#account").is_visible()
