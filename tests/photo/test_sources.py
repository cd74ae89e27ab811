"""Where photos come from: every kind of source opens, and what is none gets an error of its own."""

import io
import os
import struct

import numpy as np
import pytest
from PIL import Image, ImageFile

from hrn_opt import errors
from hrn_opt.photo import PhotoLimits, open_photo
from hrn_opt.types import Photo
from tests.photo.pictures import HEIGHT, IMAGE, PHOTO, WIDTH, encoded, gradient_rgb, png


def test_every_kind_of_source(tmp_path):
    path = tmp_path / "Zoë 1.png"
    path.write_bytes(encoded(IMAGE))
    with open(path, "rb") as stream:
        sources = [path, str(path), stream, path.read_bytes(), bytearray(path.read_bytes()), IMAGE, PHOTO, PHOTO[::1]]
        photos = [open_photo(source) for source in sources]
        assert not stream.closed
    assert all(np.array_equal(photo.rgb, PHOTO) for photo in photos)
    assert [photo.name for photo in photos] == ["Zoë 1"] * 3 + ["photo"] * 5
    assert open_photo(path, name="me").name == "me"
    assert open_photo(PHOTO).rgb is PHOTO
    assert open_photo(photos[0]) is photos[0]
    assert isinstance(photos[0], Photo)


def test_a_pil_image_is_left_as_it_was():
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.open(io.BytesIO(encoded(IMAGE, exif=exif)))
    assert open_photo(image).size_hw == (WIDTH, HEIGHT)
    assert image.size == (WIDTH, HEIGHT) and np.array_equal(np.asarray(image), PHOTO)


JPEG = encoded(Image.fromarray(gradient_rgb(700, 960)), "JPEG", quality=95)


NOT_FINITE = np.full((HEIGHT, WIDTH, 3), 0.5, np.float32)


NOT_FINITE[3, 4, 1] = np.nan


INFINITE = np.where(np.isnan(NOT_FINITE), np.inf, NOT_FINITE)


def _ftyp(brand):
    return struct.pack(">I4s4sI", 24, b"ftyp", brand, 0) + b"mif1heic" + bytes(200)


@pytest.mark.parametrize(
    ("source", "error", "says"),
    [
        pytest.param(b"", errors.PhotoEmpty, "empty", id="empty"),
        pytest.param(JPEG[: len(JPEG) // 2], errors.PhotoUnreadable, "cut short", id="jpeg-half"),
        pytest.param(JPEG[: len(JPEG) * 9 // 10], errors.PhotoUnreadable, "cut short", id="jpeg-tenth-missing"),
        pytest.param(JPEG[:40], errors.PhotoUnreadable, "cut short", id="jpeg-header-only"),
        pytest.param(encoded(IMAGE)[:-60], errors.PhotoUnreadable, "cut short", id="png-cut"),
        pytest.param(encoded(IMAGE, "WEBP")[:-60], errors.PhotoUnreadable, "cut short", id="webp-cut"),
        pytest.param(encoded(IMAGE, "TIFF")[:-60], errors.PhotoUnreadable, "cut short", id="tiff-cut"),
        pytest.param(b"Dear diary,\n" * 20, errors.PhotoUnreadable, "not a picture", id="text"),
        pytest.param(encoded(IMAGE, "PPM"), errors.PhotoUnreadable, "not a picture", id="format-not-allowed"),
        pytest.param(_ftyp(b"heic"), errors.PhotoUnreadable, "cut short", id="heic-cut"),
        pytest.param(_ftyp(b"mif1"), errors.PhotoUnreadable, "cut short", id="heif-cut"),
        pytest.param(_ftyp(b"isom"), errors.PhotoUnreadable, "video", id="mp4"),
        pytest.param(png(1, 1), errors.PhotoTooSmall, "1 × 1", id="one-pixel"),
        pytest.param(png(9_000, 9_000), errors.PhotoTooLarge, "80 megapixels", id="81-megapixels"),
        pytest.param(png(12_000, 12_000), errors.PhotoTooLarge, "80 megapixels", id="144-megapixels"),
        pytest.param(png(60_000, 60_000), errors.PhotoTooLarge, "80 megapixels", id="3600-megapixels"),
        pytest.param(Image.new("L", (9_000, 9_000)), errors.PhotoTooLarge, "megapixels", id="pil-large"),
        pytest.param(Image.new("F", (99, 99), 7.5), errors.PhotoUnreadable, "0..1", id="pil-float-range"),
        pytest.param(Image.new("RGB", (0, 0)), errors.PhotoTooSmall, "0 × 0", id="pil-empty"),
        pytest.param(Image.open(io.BytesIO(JPEG[:-200])), errors.PhotoUnreadable, "cut short", id="pil-lazy-cut"),
        pytest.param(NOT_FINITE, errors.PhotoArrayInvalid, "finite", id="nan"),
        pytest.param(INFINITE, errors.PhotoArrayInvalid, "finite", id="inf"),
        pytest.param(PHOTO.astype(np.float32), errors.PhotoArrayInvalid, "0..1", id="float-255"),
        pytest.param(PHOTO / 255 - 0.5, errors.PhotoArrayInvalid, "0..1", id="float-negative"),
        pytest.param(PHOTO.astype(np.uint16), errors.PhotoArrayInvalid, "uint16", id="uint16"),
        pytest.param(PHOTO.astype(np.int64), errors.PhotoArrayInvalid, "int64", id="int64"),
        pytest.param(PHOTO > 9, errors.PhotoArrayInvalid, "bool", id="bool"),
        pytest.param(PHOTO.astype(object), errors.PhotoArrayInvalid, "object", id="object"),
        pytest.param(PHOTO.transpose(2, 0, 1), errors.PhotoArrayInvalid, "(3, 70, 96)", id="channels-first"),
        pytest.param(PHOTO[None], errors.PhotoArrayInvalid, "(1, 70, 96, 3)", id="batch"),
        pytest.param(PHOTO[..., :2], errors.PhotoArrayInvalid, "(70, 96, 2)", id="two-channels"),
        pytest.param(PHOTO[:0], errors.PhotoTooSmall, "96 × 0", id="no-rows"),
        pytest.param(PHOTO[:20], errors.PhotoTooSmall, "96 × 20", id="array-small"),
        pytest.param(None, errors.PhotoUnreadable, "NoneType", id="none"),
        pytest.param(42, errors.PhotoUnreadable, "int", id="number"),
        pytest.param(io.StringIO("text"), errors.PhotoUnreadable, "binary", id="text-stream"),
    ],
)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")  # Pillow warns, we refuse
def test_bad_sources_get_their_own_error(source, error, says):
    before = Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES
    with pytest.raises(error) as caught:
        open_photo(source)
    assert type(caught.value) is error and says in str(caught.value)
    assert before == (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES)


@pytest.mark.filterwarnings("error")
def test_warnings_turned_into_errors_do_not_leak():
    with pytest.raises(errors.PhotoTooLarge):
        open_photo(png(12_000, 12_000))  # Pillow warns from 89 megapixels


def test_bad_paths_get_their_own_error(tmp_path):
    text = tmp_path / "holiday.jpg"
    text.write_text("not a photo")
    (tmp_path / "empty.png").touch()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "ring.jpg").symlink_to("ring.jpg")
    (tmp_path / "lost.jpg").symlink_to("none.jpg")
    for path, error, says in [
        (tmp_path / "none.jpg", errors.PhotoMissing, "no file"),
        (tmp_path / "none.jpg" / "deeper.jpg", errors.PhotoMissing, "no file"),
        ("a\0b.jpg", errors.PhotoMissing, "no file"),
        ("x" * 5000, errors.PhotoMissing, "no file"),
        ("", errors.PhotoMissing, "no file"),
        (tmp_path, errors.PhotoMissing, "folder"),
        ("/", errors.PhotoMissing, "folder"),
        (tmp_path / "pipe", errors.PhotoMissing, "regular file"),
        (tmp_path / "ring.jpg", errors.PhotoMissing, "leads back to itself"),
        (tmp_path / "lost.jpg", errors.PhotoMissing, "no file"),
        (tmp_path / "empty.png", errors.PhotoEmpty, "empty.png"),
        (text, errors.PhotoUnreadable, "holiday.jpg is not a picture"),
    ]:
        with pytest.raises(error, match=says) as caught:
            open_photo(path)
        assert type(caught.value) is error


def test_a_file_without_read_permission(tmp_path, monkeypatch):
    path = tmp_path / "mine.png"
    path.write_bytes(encoded(IMAGE))

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)  # the tests may run as root, whom no permission stops
    with pytest.raises(errors.PhotoUnreadable, match=r"mine\.png may not be read"):
        open_photo(path)


class Endless(io.RawIOBase):
    """A stream without an end or a position, as from a socket; counts what was taken from it."""

    taken = 0

    def read(self, count=-1):
        assert count > 0, "an unbounded read"
        self.taken += count
        return bytes(count)


def test_limits_are_kept(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(encoded(IMAGE))
    size = path.stat().st_size
    for source in (path, path.read_bytes()):
        assert open_photo(source, limits=PhotoLimits(max_bytes=size)).size_hw == (HEIGHT, WIDTH)
        with pytest.raises(errors.PhotoTooLarge, match="MB"):
            open_photo(source, limits=PhotoLimits(max_bytes=size - 1))
    endless = Endless()
    with pytest.raises(errors.PhotoTooLarge):
        open_photo(endless, limits=PhotoLimits(max_bytes=1000))
    assert endless.taken == 1001
    for source in (path, PHOTO, IMAGE):
        assert open_photo(source, limits=PhotoLimits(max_pixels=HEIGHT * WIDTH, min_side_px=HEIGHT))
        with pytest.raises(errors.PhotoTooLarge):
            open_photo(source, limits=PhotoLimits(max_pixels=HEIGHT * WIDTH - 1))
        with pytest.raises(errors.PhotoTooSmall):
            open_photo(source, limits=PhotoLimits(min_side_px=HEIGHT + 1))
    with pytest.raises(ValueError, match="at least 1"):
        PhotoLimits(max_pixels=0)
