"""Opening photos: every good kind comes out upright, 8-bit and opaque; every bad kind gets its own error."""

import io
import os
import struct
import subprocess
import sys
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageFile, PngImagePlugin

from hrn_opt import errors
from hrn_opt.photo import PhotoLimits, open_photo
from hrn_opt.types import Photo

HEIGHT, WIDTH = 70, 96  # unequal, so that a swapped axis fails


def gradient_rgb(height=HEIGHT, width=WIDTH):
    """Smooth, different in each channel and along each axis: survives JPEG, shows every turn and swap."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([x * 255 / (width - 1), y * 255 / (height - 1), np.full_like(x, 60)], -1).round().astype(np.uint8)


def encoded(image, file_format="PNG", **options):
    stream = io.BytesIO()
    image.save(stream, file_format, **options)
    return stream.getvalue()


def png(width, height, colour_type=2, rows=b""):
    """A PNG whose header claims any size, without the pixels in memory."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, colour_type, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def png_bomb(side):
    """A whole PNG of side² black pixels, built without deflating them: one flushed block of zeros, repeated."""
    per_row = 1 + 3 * side
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = deflate.compress(bytes(per_row * 100)) + deflate.flush(zlib.Z_FULL_FLUSH)
    adler_of_zeros = (per_row * side % 65521) << 16 | 1
    rows = b"\x78\xda" + block * (side // 100) + b"\x03\x00" + struct.pack(">I", adler_of_zeros)
    return png(side, side, rows=rows)


PHOTO = gradient_rgb()
IMAGE = Image.fromarray(PHOTO)

# What is opened → the largest difference in grey levels that its coding allows.
LOSSLESS, JPEG_95, LOSSY = 0, 6, 24


@pytest.mark.parametrize(
    ("content", "tolerance"),
    [
        pytest.param(encoded(IMAGE), LOSSLESS, id="png"),
        pytest.param(encoded(IMAGE, "BMP"), LOSSLESS, id="bmp"),
        pytest.param(encoded(IMAGE, "TIFF", compression="tiff_lzw"), LOSSLESS, id="tiff-lzw"),
        pytest.param(encoded(IMAGE, "WEBP", lossless=True), LOSSLESS, id="webp"),
        pytest.param(encoded(IMAGE, "JPEG", quality=95, subsampling=0), JPEG_95, id="jpeg"),
        pytest.param(encoded(IMAGE, "JPEG", quality=95, progressive=True, subsampling=0), JPEG_95, id="progressive"),
        pytest.param(encoded(IMAGE, "MPO", save_all=True, append_images=[IMAGE.rotate(180)]), LOSSY, id="mpo-first"),
        pytest.param(encoded(IMAGE.convert("CMYK"), "JPEG", quality=95), LOSSY, id="cmyk-jpeg"),
        pytest.param(encoded(IMAGE.quantize(255)), LOSSY, id="palette"),
        pytest.param(
            encoded(IMAGE.quantize(255), "GIF", save_all=True, append_images=[IMAGE.rotate(180).quantize(255)]),
            LOSSY,
            id="gif-first-frame",
        ),
    ],
)
def test_encodings_give_the_same_pixels(content, tolerance):
    rgb = open_photo(content).rgb
    assert rgb.shape == (HEIGHT, WIDTH, 3) and rgb.dtype == np.uint8 and rgb.flags.c_contiguous and rgb.flags.writeable
    assert np.abs(rgb.astype(int) - PHOTO).max() <= tolerance


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "TIFF"])
def test_every_exif_orientation_comes_out_upright(orientation, file_format):
    stored = {
        1: PHOTO,
        2: PHOTO[:, ::-1],
        3: PHOTO[::-1, ::-1],
        4: PHOTO[::-1],
        5: PHOTO.transpose(1, 0, 2),
        6: np.rot90(PHOTO),
        7: PHOTO[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(PHOTO, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 95, "subsampling": 0} if file_format == "JPEG" else {}
    content = encoded(Image.fromarray(np.ascontiguousarray(stored)), file_format, exif=exif, **options)
    rgb = open_photo(content).rgb
    assert rgb.shape == PHOTO.shape
    assert np.abs(rgb.astype(int) - PHOTO).max() <= JPEG_95


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_a_damaged_exif_block_does_not_cost_the_photo():
    content = encoded(IMAGE, "JPEG", quality=95, subsampling=0, exif=b"Exif\x00\x00II*\x00\xff\xff\xff\x7fgarbage")
    assert np.abs(open_photo(content).rgb.astype(int) - PHOTO).max() <= JPEG_95


RAMP_16 = np.linspace(0, 65535, WIDTH).round().astype(np.uint16)[None].repeat(HEIGHT, 0)
RAMP_8 = np.linspace(0, 255, WIDTH)[None].repeat(HEIGHT, 0)


@pytest.mark.parametrize(
    "source",
    [
        pytest.param(encoded(Image.fromarray(RAMP_16)), id="png-16"),
        pytest.param(encoded(Image.fromarray(RAMP_16), "TIFF"), id="tiff-16"),
        pytest.param(Image.fromarray(RAMP_16.astype(np.int32)), id="mode-I-16-bits"),
        pytest.param(Image.fromarray((RAMP_16.astype(np.int64) << 15).astype(np.int32)), id="mode-I-31-bits"),
        pytest.param(Image.fromarray(RAMP_8.round().astype(np.int32)), id="mode-I-8-bits"),
        pytest.param(encoded(Image.fromarray((RAMP_8 / 255).astype(np.float32)), "TIFF"), id="tiff-float"),
        pytest.param(encoded(Image.fromarray(RAMP_8.round().astype(np.uint8))), id="grey-8"),
        pytest.param(RAMP_8.round().astype(np.uint8), id="array-grey"),
        pytest.param((RAMP_8 / 255).astype(np.float32), id="array-grey-float"),
        pytest.param((RAMP_8 / 255)[..., None].repeat(3, 2), id="array-float64"),
    ],
)
def test_grey_and_deep_pictures_are_scaled_not_clipped(source):
    rgb = open_photo(source).rgb
    assert rgb.shape == (HEIGHT, WIDTH, 3)
    assert np.abs(rgb - RAMP_8[..., None]).max() <= 1  # one level: 31 bits divide by 2³¹ - 1, not by 2¹⁵ · 65535


def test_a_dark_16_bit_picture_stays_dark():
    assert open_photo(Image.fromarray(np.full((HEIGHT, WIDTH), 200, np.uint16))).rgb.max() <= 1


def _half_transparent():
    alpha = np.full((HEIGHT, WIDTH), 255, np.uint8)
    alpha[:, : WIDTH // 2] = 0
    return np.dstack([np.full((HEIGHT, WIDTH, 3), 40, np.uint8), alpha])


def _palette_with_transparency():
    image = Image.new("P", (WIDTH, HEIGHT), 1)
    image.putpalette([255, 0, 0, 40, 40, 40])
    image.paste(0, (0, 0, WIDTH // 2, HEIGHT))
    return encoded(image, transparency=0)


def _colour_key():
    image = Image.fromarray(_half_transparent()[..., :3].copy())
    image.paste((9, 8, 7), (0, 0, WIDTH // 2, HEIGHT))
    return encoded(image, transparency=(9, 8, 7))


@pytest.mark.parametrize(
    "source",
    [
        pytest.param(encoded(Image.fromarray(_half_transparent())), id="rgba-png"),
        pytest.param(encoded(Image.fromarray(_half_transparent()).convert("LA")), id="la-png"),
        pytest.param(encoded(Image.fromarray(_half_transparent()), "WEBP", lossless=True), id="rgba-webp"),
        pytest.param(_palette_with_transparency(), id="palette"),
        pytest.param(_colour_key(), id="colour-key"),
        pytest.param(_half_transparent(), id="array"),
        pytest.param(_half_transparent() / np.float32(255), id="array-float"),
    ],
)
def test_transparency_is_laid_over_white(source):
    rgb = open_photo(source).rgb
    assert (rgb[:, : WIDTH // 2] == 255).all()
    assert (rgb[:, WIDTH // 2 :] == 40).all()


def _swapped_profile():
    """sRGB with its red and blue primaries exchanged: reading the pixels as sRGB swaps the colours."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    tags = struct.unpack(">I", profile[128:132])[0]
    at = {bytes(profile[132 + 12 * i : 136 + 12 * i]): 132 + 12 * i for i in range(tags)}
    red, blue = at[b"rXYZ"], at[b"bXYZ"]
    profile[red : red + 4], profile[blue : blue + 4] = b"bXYZ", b"rXYZ"
    return bytes(profile).replace("sRGB".encode("utf-16-be"), "test".encode("utf-16-be"))


def test_an_embedded_colour_profile_is_converted_to_srgb():
    rgb = open_photo(encoded(IMAGE, icc_profile=_swapped_profile())).rgb
    assert np.abs(rgb.astype(int) - PHOTO[..., ::-1]).max() <= 4  # s15Fixed16 primaries and 8-bit tables


@pytest.mark.parametrize("profile", [b"not a profile", _swapped_profile()[:200]], ids=["garbage", "cut"])
def test_a_damaged_colour_profile_is_ignored(profile):
    assert np.array_equal(open_photo(encoded(IMAGE, icc_profile=profile)).rgb, PHOTO)


def test_a_profile_for_another_colour_mode_is_ignored():
    grey = encoded(IMAGE.convert("L"), icc_profile=_swapped_profile())
    assert np.array_equal(open_photo(grey).rgb[..., 0], np.asarray(IMAGE.convert("L")))


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


# Not getrusage: the peak that it tells a fresh process of is its parent's, here of the whole test run.
PEAK_MEMORY = """
import sys
from hrn_opt import errors
from hrn_opt.photo import open_photo
def peak_kib():
    return int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0])
before = peak_kib()
try:
    open_photo(sys.argv[1])
except errors.PhotoTooLarge:
    print(before, peak_kib())
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="this system does not tell peak memory in /proc")
def test_a_png_bomb_is_refused_before_it_is_decoded(tmp_path):
    bomb = tmp_path / "bomb.png"
    bomb.write_bytes(png_bomb(30_000))
    assert not np.asarray(Image.open(io.BytesIO(png_bomb(300)))).any()  # what it is made of does decode
    done = subprocess.run(
        [sys.executable, "-c", PEAK_MEMORY, str(bomb)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    before_kib, peak_kib = map(int, done.stdout.split())
    assert peak_kib < 1_000_000  # decoded it would be 2.7 GB
    assert peak_kib - before_kib < 20_000  # its 2.6 MB of file at most, and Pillow's plugins


def test_photos_open_the_same_in_many_threads():
    content = encoded(IMAGE, "JPEG", quality=95, subsampling=0)
    expected = open_photo(content).rgb
    opened = []
    threads = [threading.Thread(target=lambda: opened.append(open_photo(content).rgb)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(opened) == 8 and all(np.array_equal(rgb, expected) for rgb in opened)


def test_text_chunks_of_a_png_do_no_harm():
    info = PngImagePlugin.PngInfo()
    info.add_text("comment", "x" * 100_000, zip=True)
    assert np.array_equal(open_photo(encoded(IMAGE, pnginfo=info)).rgb, PHOTO)
