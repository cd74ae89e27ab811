"""Files that lack their last bytes: they open, as in any viewer, while no more than a few rows are missing."""

import io

import numpy as np
import pytest
from PIL import Image

from hrn_opt import errors
from hrn_opt.photo import open_photo


@pytest.fixture(scope="module")
def image(example_photo):
    return Image.open(example_photo).convert("RGB").crop((0, 0, 512, 400))  # unequal sides


def encoded(image, file_format, **options):
    stream = io.BytesIO()
    image.save(stream, file_format, **options)
    return stream.getvalue()


@pytest.mark.parametrize("lossless", [True, False])
@pytest.mark.parametrize("file_format", ["BMP", "WEBP"])
def test_one_that_lacks_its_last_byte_opens(image, file_format, lossless):
    whole = encoded(image, file_format, **({"lossless": lossless} if file_format == "WEBP" else {}))
    expected = open_photo(whole).rgb.astype(int)
    assert np.abs(open_photo(whole[:-1]).rgb - expected).mean() < 0.01  # one pixel
    with pytest.raises(errors.PhotoUnreadable, match="cut short"):
        open_photo(whole[: len(whole) * 9 // 10])


@pytest.mark.parametrize("size_wh", [(512, 400), (300, 900)])
def test_how_much_a_jpeg_may_lack_at_its_end(image, size_wh):
    """A block row or 2 % of the height; and of the row of blocks where it ends a part, blurred over one row more."""
    whole = encoded(image.resize(size_wh), "JPEG", quality=90)
    full, damaged_rows, refused = open_photo(whole).rgb.astype(int), [], 0
    for missing in range(len(whole) // 100, len(whole) // 8, len(whole) // 200):
        try:
            damaged_rows.append((open_photo(whole[:-missing]).rgb != full).any((1, 2)).sum())
        except errors.PhotoUnreadable:
            refused += 1
    assert refused and 16 < max(damaged_rows) <= max(16, round(0.02 * size_wh[1])) + 16 + 1
