"""The web app is measured through its own doors."""

import pytest

from benchmarks.web import measure_web

pytestmark = pytest.mark.slow


def test_web_app_is_measured():
    result = measure_web(2, lambda *_: None, users=(1, 2), rounds=2)
    assert result.photo.runs == 2 and result.page.runs > 2 and result.lag.runs > 2
    assert 0 < result.first_progress.median_s < result.photo.median_s
    assert [crowd.users for crowd in result.crowds] == [1, 2]
    for crowd in result.crowds:
        assert crowd.photos_per_s > 0 and crowd.library_per_s > 0 and crowd.slowest_s > 0
        assert 0 < crowd.ratio_low <= crowd.ratio <= crowd.ratio_high
        assert crowd.peak_rss_mb > 300, "the server and a model process with torch"
