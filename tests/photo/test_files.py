"""Files as people have them: what a viewer shows opens, and what cannot be read is named for what it is."""

import io
import struct
import subprocess
import sys
import warnings
import zlib
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from PIL import Image

from hrn_opt import errors
from hrn_opt.photo import PhotoLimits, open_photo
from hrn_opt.photo import jpeg as jpeg_reader
from tests.photo.work import lines_run

ROOT = Path(__file__).parents[2]
JPEG_90, HEIC_90 = 2.5, 2.0  # mean difference in grey levels that such a coding makes of the example


@pytest.fixture(scope="module")
def image(example_photo):
    return Image.open(example_photo).convert("RGB").crop((0, 0, 512, 400))  # unequal sides


@pytest.fixture(scope="module")
def jpeg(image):
    return encoded(image, "JPEG", quality=90)


def encoded(image, file_format="PNG", **options):
    stream = io.BytesIO()
    image.save(stream, file_format, **options)
    return stream.getvalue()


def heic(image, **options):
    stream = io.BytesIO()
    pillow_heif.from_pillow(image).save(stream, **options)
    return stream.getvalue()


def apart(content, image):
    """Mean difference in grey levels."""
    opened = open_photo(content).rgb
    assert opened.shape == (image.height, image.width, 3)
    return np.abs(opened.astype(int) - np.asarray(image)).mean()


# --- HEIC and AVIF ---


def test_heic(image):
    assert apart(heic(image, quality=90), image) < HEIC_90


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_heic_comes_out_upright_once(image, orientation):
    """The container turns it; the copy of that in EXIF must not do so again."""
    stored = {
        1: image,
        2: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        3: image.transpose(Image.Transpose.ROTATE_180),
        4: image.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
        5: image.transpose(Image.Transpose.TRANSPOSE),
        6: image.transpose(Image.Transpose.ROTATE_90),
        7: image.transpose(Image.Transpose.TRANSVERSE),
        8: image.transpose(Image.Transpose.ROTATE_270),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = heic(stored, quality=90, exif=exif.tobytes())
    assert (b"irot" in content or b"imir" in content) == (orientation > 1)
    assert apart(content, image) < HEIC_90
    phone = content.replace(b"\x01\x12\x00\x03\x00\x00\x00\x01\x00\x01", b"\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06")
    assert apart(phone, image) < HEIC_90  # phones leave the turn in EXIF too


def test_a_deep_heic(image):
    deep = np.asarray(image).astype(np.uint16) * 257
    stream = io.BytesIO()
    pillow_heif.from_bytes("RGB;16", image.size, deep.tobytes()).save(stream, quality=90)
    assert pillow_heif.open_heif(stream).info["bit_depth"] == 10
    assert apart(stream.getvalue(), image) < HEIC_90


def test_a_heic_with_alpha_lies_on_white(image):
    alpha = np.full((400, 512), 255, np.uint8)
    alpha[:, :256] = 0
    opened = open_photo(heic(Image.fromarray(np.dstack((image, alpha))), quality=90)).rgb
    assert (opened[:, :240] > 250).all()
    assert np.abs(opened[:, 272:].astype(int) - np.asarray(image)[:, 272:]).mean() < HEIC_90


def test_a_grey_heic(image):
    assert apart(heic(image.convert("L"), quality=90), image.convert("L").convert("RGB")) < HEIC_90


def test_the_primary_picture_of_a_heic_is_taken(image):
    file = pillow_heif.from_pillow(Image.new("RGB", (256, 128)))
    file.add_from_pillow(image)
    stream = io.BytesIO()
    file.save(stream, quality=90, primary_index=1)
    assert apart(stream.getvalue(), image) < HEIC_90


def test_a_heic_s_colours_are_obeyed(image):
    from hrn_opt.photo.profile import of_code_points

    display_p3 = of_code_points(12, 13)
    expected = open_photo(encoded(image, icc_profile=display_p3)).rgb
    as_numbers = heic(image, quality=95, color_primaries=12, transfer_characteristic=13)
    assert np.abs(open_photo(as_numbers).rgb.astype(int) - expected).mean() < HEIC_90
    with_profile = image.copy()
    with_profile.info["icc_profile"] = display_p3
    assert np.abs(open_photo(heic(with_profile, quality=95)).rgb.astype(int) - expected).mean() < HEIC_90


def test_limits_hold_for_a_heic_before_it_is_decoded(image, monkeypatch):
    content = heic(image)
    monkeypatch.setattr(pillow_heif.HeifImageFile, "load", lambda self: pytest.fail("decoded"))
    with pytest.raises(errors.PhotoTooLarge):
        open_photo(content, limits=PhotoLimits(max_pixels=1000))
    with pytest.raises(errors.PhotoTooSmall):
        open_photo(content, limits=PhotoLimits(min_side_px=500))


def test_avif(image):
    assert apart(encoded(image, "AVIF", quality=90), image) < JPEG_90


def test_a_turned_avif(image):
    exif = Image.Exif()
    exif[0x0112] = 6
    content = encoded(image.transpose(Image.Transpose.ROTATE_90), "AVIF", quality=90, exif=exif)
    assert apart(content, image) < JPEG_90


@pytest.mark.parametrize("share", [0.02, 0.3, 0.9, 0.999])
@pytest.mark.parametrize("kind", ["AVIF", "HEIC"])
def test_a_cut_one_is_called_cut(image, kind, share):
    content = heic(image) if kind == "HEIC" else encoded(image, "AVIF")
    with pytest.raises(errors.PhotoUnreadable, match="cut short"):
        open_photo(content[: int(len(content) * share)])


def test_nothing_is_registered_with_pillow(image, tmp_path):
    path = tmp_path / "a.heic"
    path.write_bytes(heic(image))
    code = "import sys, hrn_opt, PIL.Image as i; hrn_opt.open_photo(sys.argv[1]); assert 'HEIF' not in i.OPEN"
    subprocess.run([sys.executable, "-W", "error", "-c", code, str(path)], cwd=ROOT, check=True)


# --- JPEG: its end, its scans, its orientation ---


@pytest.mark.parametrize("missing", [1, 2, 3, 20, 200, "1 %"])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_that_lacks_its_last_bytes_opens(image, progressive, missing):
    whole = encoded(image, "JPEG", quality=90, progressive=progressive)
    count = len(whole) // 100 if missing == "1 %" else missing
    full, cut = open_photo(whole).rgb.astype(int), open_photo(whole[:-count]).rgb
    assert np.abs(cut - full).mean() < 2.5
    assert np.abs(cut - full)[: image.height - 32].mean() < 0.5


@pytest.mark.parametrize("share", [0.01, 0.2, 0.5, 0.8])
def test_a_jpeg_that_is_cut_is_refused(jpeg, share):
    with pytest.raises(errors.PhotoUnreadable, match="cut short"):
        open_photo(jpeg[: int(len(jpeg) * share)])


@pytest.mark.parametrize("share", [0.05, 0.3, 0.5])
def test_a_progressive_jpeg_that_lacks_scans_is_refused(image, share):
    content = encoded(image, "JPEG", quality=90, progressive=True)
    with pytest.raises(errors.PhotoUnreadable, match="cut short"):
        open_photo(content[: int(len(content) * share)])


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_a_cut_one_of_other_colours(image, mode):
    whole = encoded(image.convert(mode), "JPEG", quality=90)
    assert np.abs(open_photo(whole[:-2]).rgb.astype(int) - open_photo(whole).rgb).max() == 0
    with pytest.raises(errors.PhotoUnreadable, match="cut short"):
        open_photo(whole[: len(whole) // 2])


def test_what_follows_the_end_mark_does_no_harm(image, jpeg):
    film = struct.pack(">I4s4sI", 24, b"ftyp", b"mp42", 0) + b"\xff\xda\x00\x0c" * 5000  # a phone's moving photo
    assert apart(jpeg + film, image) < JPEG_90


def lines_to_refuse(content, error, **match):
    def call():
        with pytest.raises(error, **match):
            open_photo(content)

    return lines_run(call)


def test_a_jpeg_of_thousands_of_scans_is_refused_before_it_is_decoded(image, monkeypatch):
    content = encoded(image, "JPEG", progressive=True)
    last = content.rindex(b"\xff\xda")
    monkeypatch.setattr(jpeg_reader, "JpegImageFile", None)
    hundreds, thousands = (
        lines_to_refuse(content[:-2] + content[last:-2] * scans + b"\xff\xd9", errors.PhotoTooLarge, match="parts")
        for scans in (500, 5000)
    )
    assert thousands == hundreds


@pytest.mark.parametrize(
    ("junk", "error"),
    [
        (b"\xff\x01", errors.PhotoTooLarge),
        (b"\xff\xe5\0\2", errors.PhotoTooLarge),
        (b"\xff" * 100, errors.PhotoUnreadable),
        (b"x" * 100, errors.PhotoUnreadable),
    ],
    ids=["markers", "segments", "padding", "junk"],
)
def test_a_jpeg_that_is_mostly_not_a_picture_is_refused_however_long_it_goes_on(jpeg, junk, error):
    some, more = (lines_to_refuse(jpeg[:2] + junk * count + jpeg[2:], error) for count in (210_000, 420_000))
    assert more == some


def test_a_png_of_a_million_chunks_is_refused_like_one_of_fewer(image):
    content, chunk = encoded(image), struct.pack(">I4sI", 0, b"teXt", 0)
    some, more = (
        lines_to_refuse(content[:33] + chunk * count + content[33:], errors.PhotoTooLarge, match="parts")
        for count in (210_000, 1_000_000)
    )
    assert more == some


def app1(content):
    return b"\xff\xe1" + struct.pack(">H", len(content) + 2) + content


XMP = b'http://ns.adobe.com/xap/1.0/\0<x:xmpmeta><rdf:Description tiff:Orientation="%d"/></x:xmpmeta>'


def exif_of(value, kind=3, count=1):
    return b"Exif\0\0II*\0\x08\0\0\0\x01\0" + struct.pack("<HHIHH", 0x0112, kind, count, value, 0) + bytes(4)


@pytest.mark.parametrize("value", [2, 3, 6])
def test_an_orientation_in_xmp_only_is_not_obeyed(image, jpeg, value):
    """No viewer does: browsers, and the photo programs of systems, look at EXIF."""
    assert apart(jpeg[:2] + app1(XMP % value) + jpeg[2:], image) < JPEG_90
    assert apart(encoded(image, "TIFF", tiffinfo={700: XMP % value}), image) == 0
    assert apart(encoded(image, "WEBP", lossless=True, xmp=XMP % value), image) == 0
    assert apart(encoded(image, "AVIF", quality=90, xmp=XMP % value), image) < JPEG_90


def test_exif_counts_beside_xmp(image, jpeg):
    turned = encoded(image.transpose(Image.Transpose.ROTATE_90), "JPEG", quality=90)
    for blocks in (app1(XMP % 2) + app1(exif_of(6)), app1(exif_of(6)) + app1(XMP % 2)):
        assert apart(turned[:2] + blocks + turned[2:], image) < JPEG_90


@pytest.mark.parametrize("block", [exif_of(6, count=2), exif_of(6, kind=4), exif_of(9), exif_of(0), exif_of(6)[:-8]])
def test_an_odd_orientation_is_none_and_says_nothing_on_standard_error(image, jpeg, block, tmp_path):
    """As browsers have it."""
    path = tmp_path / "a.jpg"
    path.write_bytes(jpeg[:2] + app1(block) + jpeg[2:])
    assert apart(path, image) < JPEG_90
    code = "import sys, hrn_opt; hrn_opt.open_photo(sys.argv[1])"
    done = subprocess.run([sys.executable, "-c", code, str(path)], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_no_warning_of_pillow_s_and_no_filter_that_hides_others(image):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with pytest.raises(errors.PhotoTooLarge):
            open_photo(png_header(12_000, 12_000))
    assert caught == []
    done = subprocess.run(
        [sys.executable, "-c", "import hrn_opt.photo, warnings; warnings.warn('mine')"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert "mine" in done.stderr


def png_header(width, height):
    content = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", content), (b"IDAT", b""), (b"IEND", b"")]
    packed = (struct.pack(">I", len(c)) + n + c + struct.pack(">I", zlib.crc32(n + c)) for n, c in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


# --- What is no photo ---


def _riff(kind):
    return b"RIFF" + struct.pack("<I", 400) + kind + bytes(400)


def _ftyp(brand):
    return struct.pack(">I4s4sI", 24, b"ftyp", brand, 0) + b"isommp41" + bytes(200)


@pytest.mark.parametrize(
    ("content", "error", "says"),
    [
        pytest.param(_riff(b"AVI "), errors.PhotoUnreadable, "is a video", id="avi"),
        pytest.param(_riff(b"WAVE"), errors.PhotoUnreadable, "is a sound file", id="wav"),
        pytest.param(_riff(b"WEBP"), errors.PhotoUnreadable, "cut short", id="webp-cut"),
        pytest.param(b"\x1a\x45\xdf\xa3" + bytes(90), errors.PhotoUnreadable, "video", id="mkv"),
        pytest.param(_ftyp(b"qt  "), errors.PhotoUnreadable, "video", id="mov"),
        pytest.param(_ftyp(b"M4A "), errors.PhotoUnreadable, "sound", id="m4a"),
        pytest.param(b"ID3\x04" + bytes(90), errors.PhotoUnreadable, "sound", id="mp3"),
        pytest.param(b"\xff\xfb\x90\x64" + bytes(90), errors.PhotoUnreadable, "sound", id="mp3-bare"),
        pytest.param(b"OggS" + bytes(90), errors.PhotoUnreadable, "sound", id="ogg"),
        pytest.param(b"fLaC" + bytes(90), errors.PhotoUnreadable, "sound", id="flac"),
        pytest.param(b"%PDF-1.7\n", errors.PhotoFormatUnsupported, "PDF", id="pdf"),
        pytest.param(b"PK\x03\x04" + bytes(90), errors.PhotoFormatUnsupported, "ZIP", id="zip"),
        pytest.param(b"\n<!DOCTYPE html><html>", errors.PhotoFormatUnsupported, "web page", id="html"),
        pytest.param(b"<!-- saved -->\n<html>", errors.PhotoFormatUnsupported, "web page", id="html-comment"),
        pytest.param(b"<HEAD><TITLE>", errors.PhotoFormatUnsupported, "web page", id="html-head"),
        pytest.param(b"<!-- drawn --><svg/>", errors.PhotoFormatUnsupported, "SVG", id="svg-comment"),
        pytest.param(b'<?xml version="1.0"?><Error>', errors.PhotoFormatUnsupported, "XML", id="xml"),
        pytest.param(b"P6 300 200 255\n", errors.PhotoUnreadable, "not a picture in a known", id="ppm"),
        pytest.param(b"\0\0\2" + bytes(90), errors.PhotoUnreadable, "not a picture in a known", id="tga"),
        pytest.param(_ftyp(b"heic")[:10], errors.PhotoUnreadable, "cut short", id="heic-10-bytes"),
        pytest.param(b'<?xml version="1.0"?>\n<svg xmlns=""/>', errors.PhotoFormatUnsupported, "SVG", id="svg"),
        pytest.param(b"8BPS\0\1" + bytes(90), errors.PhotoFormatUnsupported, "Photoshop", id="psd"),
        pytest.param(b"\xff\x0a" + bytes(90), errors.PhotoFormatUnsupported, "JPEG XL", id="jxl"),
        pytest.param(b"\0\0\0\x0cJXL \r\n\x87\n", errors.PhotoFormatUnsupported, "JPEG XL", id="jxl-box"),
        pytest.param(b"\0\0\0\x0cjP  \r\n\x87\n", errors.PhotoFormatUnsupported, "JPEG 2000", id="jp2"),
        pytest.param(b"%!PS-Adobe-3.0 EPSF-3.0\n", errors.PhotoFormatUnsupported, "PostScript", id="eps"),
        pytest.param(b"FUJIFILMCCD-RAW 0201", errors.PhotoFormatUnsupported, "raw file", id="raf"),
        pytest.param(b"BMW is a car, and this is a text. " * 9, errors.PhotoUnreadable, "not a picture", id="bm-text"),
        pytest.param(_ftyp(b"crx "), errors.PhotoFormatUnsupported, "raw file", id="cr3"),
    ],
)
def test_other_files_are_named_for_what_they_are(content, error, says):
    with pytest.raises(error, match=says) as caught:
        open_photo(content)
    assert type(caught.value) is error
