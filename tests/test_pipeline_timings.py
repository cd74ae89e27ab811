"""What the pipeline says of time, and of faces that it refuses, counted by a clock of its own."""

import itertools
from dataclasses import replace
from types import SimpleNamespace

import pytest

from hrn_opt import pipeline
from hrn_opt.errors import FaceNotThere, FaceTooSmall, FaceTurnedTooFar
from hrn_opt.pipeline import Reconstructor
from hrn_opt.types import Box, Stage
from tests.test_pipeline import PHOTO, FakeModel


class Pair(FakeModel):
    """Two faces go through its networks together."""

    def shape_together(self, aligned):
        return ["shaped"] * len(aligned)

    def detail_together(self, shapes):
        return shapes


@pytest.fixture
def pair():
    return Pair(faces_at_once=2, has_detail=True)


@pytest.fixture
def ticking(monkeypatch):
    """A clock on which everything takes one second."""
    clock = SimpleNamespace(perf_counter=itertools.count(100.0).__next__)
    monkeypatch.setattr(pipeline, "time", clock)


def test_each_stage_has_its_own_time(pair, ticking):
    made = Reconstructor(pair).reconstruct(PHOTO)
    assert {timing.stage: timing.seconds for timing in made.timings} == dict.fromkeys(Stage, 1.0)
    assert made.seconds == 6


def test_faces_made_together_share_the_time(pair, ticking):
    both = Reconstructor(pair).reconstruct_all(PHOTO)
    stages = [stage for stage in Stage if stage is not Stage.FIND]
    assert [{timing.stage: timing.seconds for timing in one.timings} for one in both] == [
        dict.fromkeys(stages, 0.5)
    ] * 2


def test_the_first_refusal_is_raised_where_no_face_is_of_use(pair, monkeypatch):
    large, other = Reconstructor(pair).find(PHOTO)
    monkeypatch.setattr(Pair, "yaw_rad", lambda self, shape: 1.4)
    with pytest.raises(FaceTooSmall):
        Reconstructor(pair).reconstruct_all(PHOTO, faces=(large, replace(other, box=Box(0, 0, 9, 9))))
    with pytest.raises(FaceTurnedTooFar):
        Reconstructor(pair).reconstruct_all(PHOTO, faces=(large, other))


def test_a_face_that_is_not_there_is_counted_from_one(pair):
    with pytest.raises(FaceNotThere) as refusal:
        Reconstructor(pair).reconstruct(PHOTO, face=8)
    assert refusal.value.values == {"number": 9, "count": 2}
