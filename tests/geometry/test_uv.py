"""The maps on a UV layout: interpolation with its gutter, resampling, erosion, blur and fill."""

import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from hrn_opt.geometry.mesh import linear_subdivision
from hrn_opt.geometry.uv import GUTTER_TEXELS, blur, erode, push_pull, rasterize_uv, resample_rows

SIZE = 40
# An L-shaped patch away from the border: two quads.
UV = torch.tensor([[0.2, 0.2], [0.7, 0.2], [0.7, 0.5], [0.2, 0.5], [0.4, 0.5], [0.4, 0.9], [0.2, 0.9]])
FACES = torch.tensor([[0, 1, 2], [0, 2, 3], [3, 4, 5], [3, 5, 6]])


def texel_centres(size):
    """(2, size, size) of u and v at each texel's centre."""
    along = (torch.arange(size) + 0.5) / size
    v, u = torch.meshgrid(1 - along, along, indexing="ij")
    return torch.stack([u, v])


def pattern(channels, height, width, seed=0):
    return torch.rand((channels, height, width), generator=torch.Generator().manual_seed(seed))


def test_interpolation_reproduces_a_linear_function_of_uv():
    layout = rasterize_uv(UV, FACES, SIZE)
    gain = torch.tensor([[3.0, -2.0], [0.5, 7.0], [-4.0, 0.0]])  # (3, 2)
    maps = layout.interpolate(UV @ gain.T + 1)
    expected = torch.einsum("cu,uhw->chw", gain, texel_centres(SIZE)) + 1
    assert maps.shape == (3, SIZE, SIZE)
    assert_close(maps[:, layout.covered], expected[:, layout.covered], atol=1e-5, rtol=0)


def test_covered_is_the_patch_itself():
    u, v = texel_centres(SIZE)
    inside = (u > 0.2) & (v > 0.2) & (((u < 0.7) & (v < 0.5)) | ((u < 0.4) & (v < 0.9)))
    assert torch.equal(rasterize_uv(UV, FACES, SIZE).covered, inside)


def test_gutter_continues_the_rim_and_then_stops():
    layout = rasterize_uv(UV, FACES, SIZE)
    ones = layout.interpolate(torch.ones(len(UV), 1))[0]
    reach = F.max_pool2d(layout.covered[None].float(), 2 * GUTTER_TEXELS + 1, stride=1, padding=GUTTER_TEXELS)[0]
    assert_close(ones, reach)  # weights sum to 1 over the patch and its gutter, and are 0 beyond
    u, v = texel_centres(SIZE)
    left_of = (u < 0.2) & (u > 0.2 - GUTTER_TEXELS / SIZE) & (v > 0.3) & (v < 0.8)
    fine = linear_subdivision(FACES, len(UV), 3)  # triangles of about a gutter's width, as the face's are
    u_map, v_map = rasterize_uv(fine(UV), fine.faces, SIZE).interpolate(fine(UV))
    assert (u_map[left_of] - 0.2).abs().max() < 1.5 / SIZE  # held near the rim, not extrapolated
    assert (v_map - v)[left_of].abs().max() < 1.5 * GUTTER_TEXELS / SIZE  # and next to where the texel lies


def test_two_levels_of_erosion():
    mask = torch.ones(9, 12)
    mask[4, 6] = 0
    eroded = erode(mask, 2)
    expected = torch.zeros(9, 12)
    expected[2:7, 2:10] = 1  # outside counts as 0
    expected[2:7, 4:9] = 0
    assert torch.equal(eroded, expected)


def test_blur_keeps_constants_and_total_and_is_symmetric():
    assert_close(blur(torch.full((2, 7, 11), 3.5), 3), torch.full((2, 7, 11), 3.5))
    spike = torch.zeros(1, 21, 25)
    spike[0, 10, 12] = 1
    spread = blur(spike, 2)[0]
    assert_close(spread.sum(), torch.tensor(1.0))
    assert torch.equal(spread, spread.flip(0)) and torch.equal(spread, spread.flip(1))
    along = torch.tensor([1.0, 2, 3, 4, 5, 4, 3, 2, 1]) / 25  # two boxes of 5
    assert_close(spread[6:15, 8:17], along[:, None] * along)


def test_blur_repeats_the_border():
    ramp = torch.arange(12.0).expand(1, 5, 12)
    blurred = blur(ramp, 1)
    assert_close(blurred[0, :, 2:-2], ramp[0, :, 2:-2])
    assert_close(blurred[0, 0, 0], torch.tensor((0 + 0 + 1) / 3 * 2 / 3 + 1 / 3))


@pytest.mark.parametrize("size_hw", [(16, 16), (13, 22), (1, 9), (31, 1)])
def test_push_pull_fills_with_the_constant_that_is_known(size_hw):
    generator = torch.Generator().manual_seed(1)
    weight = (torch.rand(size_hw, generator=generator) > 0.8).float()
    weight[0, 0] = 1
    colour = torch.tensor([0.2, 90.0, 255.0])[:, None, None]
    filled = push_pull(colour * weight, weight)
    assert_close(filled, colour.expand(3, *size_hw), atol=1e-3, rtol=1e-5)


def test_push_pull_keeps_known_texels_and_stays_in_their_range():
    maps = pattern(2, 19, 26)
    weight = (pattern(1, 19, 26, seed=2)[0] > 0.6).float()
    filled = push_pull(maps * weight, weight)
    assert torch.equal(filled[:, weight == 1], maps[:, weight == 1])
    known = maps[:, weight == 1]
    assert (filled.amin((1, 2)) >= known.amin(1) - 1e-5).all() and (filled.amax((1, 2)) <= known.amax(1) + 1e-5).all()


def test_push_pull_fills_from_nearby():
    weight = torch.zeros(16, 32)
    weight[:, :4] = weight[:, -4:] = 1
    maps = torch.zeros(1, 16, 32)
    maps[:, :, -4:] = 100.0
    middle_row = push_pull(maps, weight)[0, 8]
    assert (middle_row.diff() >= -1e-4).all() and middle_row[8] < 30 and middle_row[-9] > 70


@pytest.mark.parametrize("factor", [2, 4])
def test_resampled_whole_factors_match_interpolate(factor):
    maps = pattern(3, 12, 12)
    enlarged = F.interpolate(maps[None], scale_factor=factor, mode="bilinear", align_corners=False)[0]
    assert_close(resample_rows(maps, 12 * factor, 0, 12 * factor), enlarged, atol=1e-5, rtol=0)
    reduced = F.interpolate(maps[None], scale_factor=1 / factor, mode="bilinear", align_corners=False)[0]
    assert_close(resample_rows(maps, 12 // factor, 0, 12 // factor), reduced, atol=1e-5, rtol=0)


def test_resampled_in_bands_is_the_same():
    maps = pattern(2, 10, 14)
    whole = resample_rows(maps, 37, 0, 37)
    bands = torch.cat([resample_rows(maps, 37, start, min(start + 5, 37)) for start in range(0, 37, 5)], 1)
    assert torch.equal(whole, bands) and whole.shape == (2, 37, 37)


def test_resampled_to_its_own_size_is_itself():
    maps = pattern(2, 9, 9)
    assert_close(resample_rows(maps, 9, 0, 9), maps, atol=1e-6, rtol=0)
