"""The HTML of progress and costs."""

from hrn_opt.serving.jobs import StageCost, StageDone
from hrn_opt.types import Stage
from hrn_opt.web.page.progress import Ticker, costs_html, idle, refused


def done(stage, fraction, seconds, number=1):
    return StageDone(StageCost(stage, seconds, 10**9), fraction, number, 2)


def test_stages_tick_as_they_end():
    ticker = Ticker("en")
    assert ticker.working("Working …").count("<li") == 5 and "done" not in ticker.working("Working …")
    ticker.add(done(Stage.FIND, 0.2, 0.123))
    shown = ticker.working("Working …")
    assert '<li class="done">Find the face 0.12 s</li>' in shown and "<li class=now>Place the landmarks</li>" in shown
    assert 'aria-valuenow="20"' in shown
    ended = ticker.ended("Stopped.")
    assert "Place the landmarks" not in ended and "Find the face" in ended


def test_a_detail_stage_shows_once_it_was_there():
    ticker = Ticker("zh")
    ticker.add(done(Stage.DETAIL, 0.5, 1.0))
    assert "雕刻细节 1.00 秒" in ticker.working("处理中……")


def test_another_face_begins_anew():
    ticker = Ticker("en")
    ticker.add(done(Stage.TEXTURE, 0.9, 0.1))
    ticker.add(done(Stage.FIND, 0.2, 0.1, number=2))
    assert ticker.working("x").count('"done"') == 1 and ticker.fraction == 0.2


def test_a_run_that_has_ended_can_be_named():
    ticker = Ticker("en", "0123abcd")
    assert "0123abcd" not in ticker.working("Working …")
    assert '<p class="run">Run 0123abcd</p>' in ticker.ended("No face.", failed=True)
    assert 'class="run"' not in Ticker("en").ended("Done.") + refused("no") + idle("en")


def test_what_visitors_named_is_escaped():
    assert "<script>" not in refused("<script>.jpg is no picture") + Ticker("en").ended("x", advice=("<script>",))
    assert 'class="note failed"' in refused("no") and 'class="note"' in idle("en")


def test_costs_are_bars_against_the_largest():
    html = costs_html("en", (StageCost(Stage.FIND, 0.5, 10**9), StageCost(Stage.TEXTURE, 1.0, 2 * 10**9)))
    assert "width:50%" in html and "width:100%" in html and "0.50 s" in html and "2.00 GB" in html
    assert "Seconds" in html and "Seconds" not in costs_html("en", ())
