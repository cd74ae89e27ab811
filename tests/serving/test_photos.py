"""Opened photos: each once, a bounded number, and none longer than its file."""

import threading

import numpy as np
import pytest

from hrn_opt.errors import NoFaceFound, PhotoEmpty
from hrn_opt.pipeline import Detection
from hrn_opt.serving.jobs import ModelChoice
from hrn_opt.serving.photos import OpenPhotos
from hrn_opt.types import Photo

BYTES = 10 * 8 * 3
BUILTIN, HRN = ModelChoice("builtin"), ModelChoice("hrn")


class Bench:
    def __init__(self, folder, most_bytes=2 * BYTES):
        self.folder, self.opened, self.searched = folder, [], 0
        self.photos = OpenPhotos(self._open, most_bytes)

    def ask(self, name, choice=BUILTIN):
        return self.photos.detection(self.folder / name, choice, self._detect, threading.Event())

    def write(self, *names):
        for name in names:
            (self.folder / name).write_text(name)

    def _open(self, path, stop):
        self.opened.append(path.name)
        if path.name == "empty":
            raise PhotoEmpty("empty is empty.")
        return Photo(np.zeros((10, 8, 3), np.uint8), path.name)

    def _detect(self, photo):
        self.searched += 1
        if photo.name == "nobody":
            raise NoFaceFound("No face.")
        return Detection(photo, (), None)


@pytest.fixture
def bench(tmp_path):
    bench = Bench(tmp_path)
    bench.write("1", "2", "3", "empty", "nobody")
    return bench


def test_a_photo_is_opened_once_and_searched_once_a_model(bench):
    first = bench.ask("1")
    assert bench.ask("1") is first and bench.ask("1", HRN) is not first
    assert (bench.opened, bench.searched) == (["1"], 2)


def test_another_file_of_the_same_name_is_another_photo(bench):
    bench.ask("1")
    (bench.folder / "1").write_text("a longer one")
    bench.ask("1")
    assert bench.opened == ["1", "1"]


def test_those_not_asked_for_longest_make_room(bench):
    for name in ("1", "2", "1", "3"):
        bench.ask(name)
    del bench.opened[:]
    for name in ("1", "3", "2"):
        bench.ask(name)
    assert bench.opened == ["2"]


def test_one_photo_stays_however_large(tmp_path):
    bench = Bench(tmp_path, most_bytes=1)
    bench.write("1")
    assert bench.ask("1") is bench.ask("1")


def test_a_photo_goes_with_its_file(bench):
    bench.ask("1"), bench.ask("2")
    (bench.folder / "1").unlink()
    bench.photos.forget_gone()
    bench.write("1")
    bench.ask("2"), bench.ask("1")
    assert bench.opened == ["1", "2", "1"]


def test_what_cannot_be_used_is_said_each_time(bench):
    for name, error in (("empty", PhotoEmpty), ("nobody", NoFaceFound)) * 2:
        with pytest.raises(error):
            bench.ask(name)
    assert bench.opened == ["empty", "nobody", "empty"]
