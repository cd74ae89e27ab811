"""Several photos on one machine, as visitors see them: cancel, reload, wait, be refused."""

import pytest

from tests.browser.visits import (
    DESKTOP,
    begin_turntable,
    create,
    give,
    serving,
    want_everything,
    work_until_free,
)

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A page that works on one photo at a time, whatever the machine has."""
    with serving(tmp_path_factory.mktemp("queue"), "--concurrency", "1") as served:
        yield served


def test_cancel_frees_the_machine_and_the_next_photo_runs(open_page, server, example_photo):
    page = open_page(DESKTOP)
    begin_turntable(page, example_photo)
    whole_work = work_until_free(page, server)
    create(page)
    page.locator(".stages .done", has_text="Unwrap").wait_for()
    page.locator("#cancel").click()
    page.locator(".note", has_text="Stopped").wait_for()
    assert work_until_free(page, server) < whole_work / 3
    page.locator("#cancel:disabled").wait_for()
    page.locator("#want label", has_text="Texture only").click()
    create(page)
    page.get_by_text("Done in").wait_for()


def test_reload_during_a_run_frees_the_machine(open_page, server, example_photo):
    page = open_page(DESKTOP)
    begin_turntable(page, example_photo)
    whole_work = work_until_free(page, server)
    create(page)
    page.locator(".stages .done", has_text="Unwrap").wait_for()
    page.evaluate("localStorage.clear()")
    page.reload()
    assert work_until_free(page, server) < whole_work / 2
    page.locator("#create").wait_for()
    give(page, example_photo)
    create(page)
    page.get_by_text("Done in").wait_for()


def test_a_second_click_runs_nothing_twice(open_page, server, example_photo):
    before = set(server.folder.glob("hrn_opt_*/files/*/0"))
    page = open_page(DESKTOP)
    give(page, example_photo)
    page.locator("#outlined img").wait_for()
    page.locator("#create").dblclick()
    page.get_by_text("Done in").wait_for()
    work_until_free(page, server)
    assert len(set(server.folder.glob("hrn_opt_*/files/*/0")) - before) == 1


def test_two_tabs_at_once(open_page, example_photo, group_photo):
    first, second = open_page(DESKTOP), open_page(DESKTOP)
    give(first, example_photo)
    give(second, group_photo)
    create(first)
    create(second)
    for page, name in ((first, "astronaut.png"), (second, "group.png")):
        page.get_by_text("Done in").wait_for()
        with page.expect_download() as download:
            page.locator("#get-texture").click()
        assert download.value.suggested_filename == name


def test_a_full_queue_says_so(open_page, example_photo, tmp_path):
    with serving(tmp_path, "--most-jobs", "1") as served:
        first, second = open_page(DESKTOP, served.address), open_page(DESKTOP, served.address)
        give(second, example_photo)
        second.locator("#outlined img").wait_for()
        begin_turntable(first, example_photo)
        create(second)
        second.locator(".note.failed", has_text="try again in a minute").wait_for()
        assert second.locator(".toast-wrap", has_text="Error").count() == 0  # the note says it, in his language
        first.locator("#cancel").click()
        first.locator(".note", has_text="Stopped").wait_for()
        first.close()
        second.close()


def test_a_waiting_photo_knows_its_place(open_page, example_photo):
    first, second = open_page(DESKTOP), open_page(DESKTOP)
    give(second, example_photo)
    second.locator("#outlined img").wait_for()
    begin_turntable(first, example_photo)
    create(second)
    second.locator(".note", has_text="Waiting: 1").wait_for()
    first.locator("#cancel").click()
    second.get_by_text("Done in").wait_for()


WATCH_FIRST_PROGRESS = """() => {
    const note = document.querySelector('#progress'), before = note.innerText;
    document.querySelector('#create').addEventListener('click', () => {
        new MutationObserver((_, observer) => {
            if (note.innerText === before) return;
            window.doneAtFirst = note.querySelectorAll('.done').length;
            observer.disconnect();
        }).observe(note, {subtree: true, childList: true, characterData: true});
    }, {once: true});
}"""


def test_the_page_tells_and_answers_while_a_photo_computes(open_page, server, example_photo):
    """The first progress comes before the first stage ends, and others get the page before the last one does."""
    page, answers = open_page(DESKTOP), 0
    want_everything(page, example_photo)
    page.evaluate(WATCH_FIRST_PROGRESS)
    create(page)
    while "Done in" not in page.locator("#progress").inner_text():
        assert page.request.get(server.address).ok
        answers += page.request.get(f"{server.address}/healthz").json()["jobs"] > 0
    assert page.evaluate("window.doneAtFirst") == 0
    assert answers > 6  # stages: a page that computes itself answers once after each
