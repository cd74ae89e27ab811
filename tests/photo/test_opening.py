"""Opening photos: every good kind comes out upright, 8-bit and opaque; every bad kind gets its own error."""

import io
import struct
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin

from hrn_opt.photo import open_photo
from tests.photo.pictures import HEIGHT, IMAGE, PHOTO, WIDTH, encoded, png_bomb

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
