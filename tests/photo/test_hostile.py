"""Files made to keep the program busy: the work grows as the file does, whatever its bytes are."""

import io

import numpy as np
import pytest
from PIL import Image

from hrn_opt import errors
from hrn_opt.photo import open_photo
from tests.photo.work import growth


def encoded(file_format):
    return encoded_image(Image.linear_gradient("L").convert("RGB").resize((300, 200)), file_format)


def encoded_image(image, file_format="GIF", **options):
    stream = io.BytesIO()
    image.save(stream, file_format, **options)
    return stream.getvalue()


JPEG = encoded("JPEG")
EXIF = b"\xff\xe1\xff\xfeExif\0\0" + bytes(65_526)


@pytest.mark.parametrize(
    ("of_size", "size"),
    [
        pytest.param(lambda size: JPEG[:2] + b"\xff" * size, 10_000, id="fill"),
        pytest.param(lambda size: JPEG[:2] + b"\xff" * size + b"\0", 10_000, id="fill-and-zero"),
        pytest.param(lambda size: JPEG[:-2] + b"\xff" * size, 10_000, id="fill-for-an-end"),
        pytest.param(lambda size: JPEG[:2] + EXIF * (size // 65_536) + JPEG[2:], 20_000_000, id="exif"),
    ],
)
def test_the_work_for_a_jpeg_grows_as_its_size(of_size, size):
    assert growth(of_size, size) < 3


GIF = encoded("GIF")
GIF_HEAD = 13 + 3 * 256  # bytes: the screen and its palette


def test_the_work_for_a_gif_grows_as_its_size():
    def of_size(size):
        return GIF[:GIF_HEAD] + b"!\xfe" + (b"\xff" + b"x" * 255) * (size // 256) + b"\0" + GIF[GIF_HEAD:]

    assert growth(of_size, 4_000_000) < 3
    assert np.array_equal(open_photo(of_size(1000)).rgb, open_photo(GIF).rgb)


@pytest.mark.parametrize("junk", [b"!\xfe\1x\0" * 300_000, b"x" * 300_000], ids=["comments", "junk"])
def test_a_gif_of_endless_small_parts_is_refused(junk):
    with pytest.raises(errors.PhotoTooLarge, match="parts"):
        open_photo(GIF[:GIF_HEAD] + junk + GIF[GIF_HEAD:])


def test_what_stands_before_a_gif_s_picture_does_no_harm():
    image = Image.open(io.BytesIO(GIF)).convert("P")
    content = encoded_image(image, transparency=int(np.asarray(image)[0, 0]))
    expected = open_photo(content).rgb
    notes = b"!\xff\x0bXMP DataXMP\3abc\0" + b"!\xfe\2hi\0" + b"\0"  # the last byte is a stray one
    with_notes = content[:GIF_HEAD] + notes + content[GIF_HEAD:]
    assert (expected[0, 0] == 255).all() and np.array_equal(open_photo(with_notes).rgb, expected)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(JPEG[:2] + b"\xff\xe0\0\2" + b"\xff\xd0" * 20_000_000, id="restarts"),
        pytest.param(JPEG[:2] + (b"\xff\xd0" * 30_000 + b"\xff\xe5\0\2") * 300 + JPEG[2:], id="restarts-in-parts"),
        pytest.param(JPEG[:-2] + b"\xff" * 20_000_000, id="fill-after-the-scan"),
    ],
)
def test_a_jpeg_with_more_filling_than_any_encoder_leaves_is_called_damaged(content):
    with pytest.raises(errors.PhotoUnreadable, match="damaged"):
        open_photo(content)
