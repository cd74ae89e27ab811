"""The page with HRN on it: a made-up pack of full size, whose stages take as long as the published one's."""

import zipfile

import pytest

from tests.browser.visits import ANSWERS_WITHIN_MS, DESKTOP, create, serving, show_tab, want_everything, work_until_free

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture(scope="module")
def hrn_server(tmp_path_factory):
    from hrn_opt.hrn.pack.prepare import prepare
    from testing.synthetic_pack.pack import write_pack

    home = tmp_path_factory.mktemp("home")
    prepare(write_pack(home / "made", seed=2, size="full"), home / "prepared")
    with serving(tmp_path_factory.mktemp("hrn_page"), HRN_OPT_HOME=str(home)) as served:
        yield served


@pytest.fixture(scope="module")
def whole_work(chromium, hrn_server, example_photo):
    """Of a photo that nobody cancels."""
    page = chromium.new_page()
    page.set_default_timeout(ANSWERS_WITHIN_MS)
    page.goto(hrn_server.address)
    want_everything(page, example_photo)
    create(page)
    page.locator(".stages .done").first.wait_for()
    work = work_until_free(page, hrn_server)
    page.close()
    return work


@pytest.fixture
def page(open_page, hrn_server, example_photo):
    page = open_page(DESKTOP, hrn_server.address)
    want_everything(page, example_photo)
    return page


@pytest.mark.parametrize("ticked", range(6))
def test_cancel_during_each_stage_frees_the_machine(page, hrn_server, whole_work, ticked):
    """After so many stages: during the finding (known already, so none), …, and the turntable last."""
    create(page)
    if ticked:
        page.locator(".stages .done").nth(ticked - 1).wait_for()
    page.locator("#cancel").click()
    page.locator(".note", has_text="Stopped").wait_for()
    assert work_until_free(page, hrn_server) < whole_work / 4
    page.locator("#create:enabled").wait_for()
    page.locator("#get-texture:disabled").wait_for(state="attached")


def test_all_views_and_downloads(page):
    create(page)
    page.get_by_text("Done in").wait_for(timeout=120_000)
    assert "Carve the details" in page.locator("#progress").inner_text()
    show_tab(page, "Maps")
    page.locator("#maps img").nth(1).wait_for()
    assert all(page.locator("#maps", has_text=name).count() for name in ("Normals", "Displacement"))
    show_tab(page, "Turntable")
    page.wait_for_function("document.querySelector('#turntable img')?.naturalWidth > 100")
    show_tab(page, "Timings")
    assert page.locator("#costs tr").count() == 6
    with page.expect_download() as download:
        page.locator("#get-everything").click()
    with zipfile.ZipFile(download.value.path()) as archive:
        assert archive.testzip() is None
        endings = {name.split(".", 1)[1].split("_")[0] for name in archive.namelist()}
    assert {"png", "glb", "clay.glb", "obj", "mtl", "overlay.jpg", "normal.png", "displacement"} <= endings
    assert {"turntable.webp", "dense.glb", "lit.glb"} <= endings
