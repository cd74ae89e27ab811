"""Decoded photos: opened once a visitor, bounded, and gone with him."""

import numpy as np
import pytest

from hrn_opt.errors import PhotoEmpty
from hrn_opt.types import Photo
from hrn_opt.web.photos import OpenPhotos

BYTES = 10 * 8 * 3


@pytest.fixture
def opened() -> list[str]:
    return []


@pytest.fixture
def photos(opened) -> OpenPhotos:
    def open_photo(path: str) -> Photo:
        opened.append(path)
        if path == "empty":
            raise PhotoEmpty("empty is empty.")
        return Photo(np.zeros((10, 8, 3), np.uint8), path)

    return OpenPhotos(open_photo, most_bytes=2 * BYTES)


def test_a_visitors_photo_is_opened_once(photos, opened):
    first = photos.photo("a", "me.jpg")
    assert photos.photo("a", "me.jpg") is first and opened == ["me.jpg"]
    assert photos.photo("b", "me.jpg") is not first and len(opened) == 2


def test_those_not_asked_for_longest_make_room(photos, opened):
    for path in ("1", "2", "1", "3"):
        photos.photo("a", path)
    del opened[:]
    for path in ("1", "3", "2"):
        photos.photo("a", path)
    assert opened == ["2"]


def test_one_photo_stays_however_large():
    photos = OpenPhotos(lambda path: Photo(np.zeros((10, 8, 3), np.uint8), path), most_bytes=1)
    assert photos.photo("a", "1") is photos.photo("a", "1")


def test_a_visitors_photos_go_with_him(photos, opened):
    photos.photo("a", "me.jpg"), photos.photo("b", "me.jpg")
    photos.forget("a")
    photos.photo("b", "me.jpg")
    assert len(opened) == 2
    photos.photo("a", "me.jpg")
    assert len(opened) == 3


def test_what_cannot_be_opened_is_said_each_time(photos, opened):
    for _ in range(2):
        with pytest.raises(PhotoEmpty):
            photos.photo("a", "empty")
    assert opened == ["empty", "empty"]
