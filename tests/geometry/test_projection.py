"""What of a surface the photo shows: not what lies behind another part of it, nor what lies outside the photo; and the
photo's colours under it.
"""

import numpy as np
import pytest
import torch

from hrn_opt.geometry import projection
from hrn_opt.geometry.projection import bands, fade, inside_photo, photo_patch, texels_per_px, visible


def plane(left, right, depth):
    """Two triangles facing the viewer, 100 px high; y down."""
    points = torch.tensor([[left, 0.0, depth], [right, 0, depth], [right, 100, depth], [left, 100, depth]])
    return points, torch.tensor([[0, 2, 1], [0, 3, 2]])


def texels(x, depth):
    """(2, 1, 1) and (1, 1, 1) of one texel half way down."""
    return torch.tensor([[[x]], [[50.0]]]), torch.tensor([[[depth]]])


def test_what_lies_behind_another_part_is_hidden():
    near, faces = plane(0.0, 50.0, 10.0)
    far, _ = plane(0.0, 100.0, 30.0)
    points, faces = torch.cat([near, far]), torch.cat([faces, faces + 4])
    for x, depth, expected in ((25.0, 10.0, 1), (25.0, 30.0, 0), (75.0, 30.0, 1), (25.0, 12.0, 0), (25.0, 10.4, 1)):
        assert visible(points, faces, *texels(x, depth)).item() == expected, (x, depth)


def test_the_silhouette_is_not_trusted():
    points, faces = plane(0.0, 100.0, 10.0)
    points = torch.cat([points, torch.tensor([[0.0, 0.0, 20.0]])])  # gives the surface a depth
    assert visible(points, faces, *texels(0.5, 10.0)).item() < 0.5
    assert visible(points, faces, *texels(50.0, 10.0)).item() == 1


def test_inside_the_photo():
    xy = torch.tensor([[[-0.1, 0.0, 20.0, 20.1, 5.0]], [[5.0, 5.0, 10.0, 5.0, 10.1]]])
    assert inside_photo(xy, (10, 20)).tolist() == [[[0.0, 1.0, 1.0, 0.0, 0.0]]]


def ramps():
    """60 × 90 px; red grows by 2 a column, green by 3 a row."""
    y, x = np.mgrid[0:60, 0:90]
    return np.stack([2 * x, 3 * y, np.full_like(x, 70)], -1).astype(np.uint8)


@pytest.mark.parametrize(
    ("zoom", "origin_xy", "size_hw"),
    [(0.5, (18, 8), (22, 27)), (1.0, (22, 12), (36, 46)), (2.0, (24, 14), (64, 84)), (7.0, (24, 14), (64, 84))],
)
def test_a_patch_gives_the_photo_s_colours_where_they_are(zoom, origin_xy, size_hw):
    patch = photo_patch(ramps(), torch.tensor([[30.0, 20.0, 5.0], [60.0, 40.0, 5.0]]), zoom)
    assert patch.origin_xy.tolist() == list(origin_xy) and patch.image.shape == (3, *size_hw)
    photo_xy = torch.tensor([[[30.0, 45.25, 60.0]], [[20.0, 31.5, 40.0]]])
    expected = torch.stack([2 * (photo_xy[0] - 0.5), 3 * (photo_xy[1] - 0.5), torch.full((1, 3), 70.0)])
    # half a grey level by rounding, another where a pixel is halved between two
    torch.testing.assert_close(patch.sample(photo_xy), expected, atol=1, rtol=0)


def test_a_patch_ends_with_the_photo():
    whole = photo_patch(ramps(), torch.tensor([[-30.0, -20.0], [120.0, 90.0]]), 1.0)
    assert whole.origin_xy.tolist() == [0, 0] and whole.image.shape == (3, 60, 90)
    right = photo_patch(ramps(), torch.tensor([[200.0, 200.0], [210.0, 210.0]]), 1.0)
    assert right.origin_xy.tolist() == [89, 59] and right.image.shape == (3, 1, 1)
    left = photo_patch(ramps(), torch.tensor([[-200.0, -200.0], [-190.0, -190.0]]), 1.0)
    assert left.origin_xy.tolist() == [0, 0] and left.image.shape == (3, 1, 1)


@pytest.mark.parametrize(("size", "expected"), [(100, 1), (300, 3)])
def test_texels_along_a_pixel(size, expected):
    """A plane of 50 × 100 px has half the texture; what faces away does not count."""
    points, faces = plane(20.0, 70.0, 10.0)
    uv = torch.tensor([[0.2, 1.0], [0.7, 1.0], [0.7, 0.0], [0.2, 0.0]])
    assert texels_per_px(points, faces, uv, size) == pytest.approx(expected)
    away = torch.cat([faces, faces.flip(1)])
    assert texels_per_px(points, away, uv, size) == pytest.approx(expected)


def test_bands_cover_each_row_once(monkeypatch):
    assert bands(1000) == [(0, 1000)] and bands(2048) == [(0, 512), (512, 1024), (1024, 1536), (1536, 2048)]
    monkeypatch.setattr(projection, "BAND_TEXELS", 7 * 20)
    assert bands(20) == [(0, 7), (7, 14), (14, 20)]
    assert bands(150) == [(row, row + 1) for row in range(150)]


def test_fading_is_smooth_between_its_ends():
    faded = fade(torch.tensor([-9.0, 2.0, 3.0, 4.0, 6.0, 7.0]), 2.0, 6.0)
    assert faded.tolist() == [0, 0, 0.15625, 0.5, 1, 1]
    assert fade(torch.tensor([6.0, 3.0, 2.0]), 6.0, 2.0).tolist() == [0, 0.84375, 1]
