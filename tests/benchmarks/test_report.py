"""The report says what the figures say, and the README's table is the committed one."""

import json
from dataclasses import asdict

import numpy as np
import pytest

from benchmarks import report
from benchmarks.ladder import Difference

STORED = sorted(report.RESULTS.glob("*.json"))


@pytest.fixture(scope="module")
def measured() -> dict:
    return json.loads(STORED[0].read_text(encoding="utf-8"))


def test_readme_has_the_committed_figures(measured):
    text = report.README.read_text(encoding="utf-8")
    _, start, rest = text.partition(report.README_START)
    inside, end, _ = rest.partition(report.README_END)
    assert start and end and inside.strip() == report.readme_text(measured).strip(), (
        "python -m benchmarks.report --readme"
    )


@pytest.mark.parametrize("path", STORED, ids=lambda path: path.stem)
def test_stored_reports_are_made_from_their_figures(path):
    stored = path.with_suffix(".md").read_text(encoding="utf-8")
    pictures = sorted(picture.name for picture in path.parent.glob(f"{path.stem}-*.png"))
    assert pictures
    measured = json.loads(path.read_text(encoding="utf-8"))
    without_pictures = stored.split("![")[0].strip()
    assert without_pictures == report.markdown(measured).strip(), "python -m benchmarks.report"
    assert all(f"({name})" in stored for name in pictures)


def test_stored_ladder_keeps_what_was_promised(measured):
    ladder = measured["ladder"]
    rungs = {rung["name"]: rung for rung in ladder["rungs"]}
    engine = rungs["engine"]
    assert engine["gain_low"] >= 5
    assert engine["difference"]["vertices_dm"] <= 1e-4
    assert engine["difference"]["texture_mean"] <= 0.08
    assert engine["difference"]["texture_p99"] <= 0.7 and engine["difference"]["texture_p999"] <= 1.5
    assert all(rung["difference"]["texture_mean"] <= 0.08 for rung in ladder["rungs"] if "-" in rung["name"])


def test_readme_is_rewritten_between_its_markers(measured, tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{report.README_START}old figures\n{report.README_END}\nafter\n")
    report.write_readme(measured, readme)
    text = readme.read_text()
    assert text.startswith("before\n") and text.endswith("\nafter\n") and "old figures" not in text
    report.write_readme(measured, readme)
    assert readme.read_text() == text


def test_what_was_not_measured_is_said(measured):
    only = {"machine": measured["machine"], "not_measured": {"ladder": "the published code needs kornia"}}
    text = report.markdown(only)
    assert "## Not measured" in text and "ladder: the published code needs kornia" in text
    assert ("was at hand" in text) == (measured["machine"]["gpu"] == "none")


def test_differences_are_in_grey_levels_before_clipping():
    random = np.random.default_rng(0)
    reference = {"texture": random.random((8, 8, 3)), "vertices": random.random((5, 3))}
    found = {"texture": reference["texture"] + 2 / 255, "vertices": reference["vertices"] + 1e-3}
    difference = asdict(Difference.between(reference, found))
    assert difference["texture_mean"] == pytest.approx(2) and difference["texture_p999"] == pytest.approx(2)
    assert difference["vertices_dm"] == pytest.approx(1e-3)
    assert Difference.between(reference, reference).texture_db >= 100
    beyond = {"texture": reference["texture"] + 3, "vertices": reference["vertices"]}
    assert Difference.between({**reference, "texture": reference["texture"] + 2}, beyond).texture_db >= 100  # clipped
