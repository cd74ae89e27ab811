"""The turned square crop, its way back to the photo, and how the points settle."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from hrn_opt.builtin.align import (
    MARGIN,
    Region,
    crop_region,
    locate_points,
    region_of_detection,
    region_of_points,
    settle_points,
)
from hrn_opt.builtin.networks import MESH_INPUT_PX
from hrn_opt.builtin.points import OUTER_EYE_CORNERS, POINT_COUNT

REGION = Region((61.3, 44.8), 87.0, 0.4)


def to_crop(photo_xy, region):
    """Network pixels of photo positions, written out for one point."""
    x, y = photo_xy[0] - region.centre_xy[0], photo_xy[1] - region.centre_xy[1]
    along = x * math.cos(region.roll_rad) + y * math.sin(region.roll_rad)  # the crop's x axis lies along the eyes
    across = -x * math.sin(region.roll_rad) + y * math.cos(region.roll_rad)
    return (along / region.side_px + 0.5) * MESH_INPUT_PX, (across / region.side_px + 0.5) * MESH_INPUT_PX


def ramp(height, width, step):
    """Red counts x, green counts y, by `step` levels a pixel from the first one's centre."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([x * step, y * step, np.full_like(x, 7)], -1).round().astype(np.uint8)


def test_region_to_photo_and_back():
    points = torch.tensor([[0.0, 0, 0], [192, 0, 1], [50, 130, -20], [96, 96, 5]])
    photo = REGION.to_photo(points)
    for there, back in zip(points.tolist(), photo.tolist(), strict=True):
        assert to_crop(back, REGION) == pytest.approx(there[:2], abs=1e-3)
    assert_close(photo[:, 2], points[:, 2] * 87 / 192)
    assert_close(photo[3, :2], torch.tensor(REGION.centre_xy))


@pytest.mark.parametrize("roll_rad", [0.0, 0.5, -2.2, math.pi / 2])
@pytest.mark.parametrize("side_px", [60.0, 100.0])
def test_crop_of_a_ramp_says_where_it_was_taken(side_px, roll_rad):
    region = Region((121.3, 98.8), side_px, roll_rad)
    crop = crop_region(ramp(200, 240, 1), region)
    assert crop.shape == (3, MESH_INPUT_PX, MESH_INPUT_PX)
    along = torch.arange(MESH_INPUT_PX) + 0.5
    y, x = torch.meshgrid(along, along, indexing="ij")
    photo = region.to_photo(torch.stack([x, y, torch.zeros_like(x)], -1))
    # Bilinear sampling is exact on a ramp; float32 grid positions over some 100 px.
    assert_close(crop[0] * 255, photo[..., 0] - 0.5, atol=2e-3, rtol=0)
    assert_close(crop[1] * 255, photo[..., 1] - 0.5, atol=2e-3, rtol=0)
    assert_close(crop[2] * 255, torch.full((MESH_INPUT_PX, MESH_INPUT_PX), 7.0))


@pytest.mark.parametrize("side_px", [400.0, 700.0])
def test_crop_of_a_large_face_is_averaged_without_a_shift(side_px):
    rgb = ramp(1010, 1150, 0.2)
    region = Region((603.3, 501.8), side_px, 0.3)
    crop = crop_region(rgb, region)
    along = torch.arange(MESH_INPUT_PX) + 0.5
    y, x = torch.meshgrid(along, along, indexing="ij")
    photo = region.to_photo(torch.stack([x, y, torch.zeros_like(x)], -1))
    for channel in (0, 1):
        difference = crop[channel] * 255 - (photo[..., channel] - 0.5) * 0.2
        assert difference.abs().max() < 1.1  # whole levels in the ramp, rounded again by the averaging
        assert difference.mean().abs() < 0.14  # rounding halves up; half a reduced pixel would be 0.2 at the least


def test_large_crops_are_averaged_not_picked():
    noise = np.random.default_rng(0).integers(0, 2, (900, 900, 1), dtype=np.uint8).repeat(3, 2) * 255
    crop = crop_region(noise, Region((450.0, 450.0), 192 * 4.0, 0.0))
    assert crop.std() < 0.16  # means of 4 × 4 are a quarter as rough as the pixels' 0.5


def test_crop_past_the_border_repeats_it():
    rgb = ramp(50, 70, 3)
    crop = crop_region(rgb, Region((70.0, 25.0), 60.0, 0.0)) * 255  # its right half lies outside
    assert_close(crop[0, :, 96:], torch.full((MESH_INPUT_PX, 96), 69 * 3.0), atol=2e-3, rtol=0)
    far = crop_region(rgb, Region((-500.0, 900.0), 40.0, 0.7)) * 255
    assert_close(far[:2, 50, 60], torch.tensor([0.0, 49 * 3.0]), atol=1e-3, rtol=0)


def test_region_of_a_detection():
    region = region_of_detection(torch.tensor([10.0, 20, 50, 80]), torch.tensor([[20.0, 40], [40, 60]]))
    assert region.centre_xy == (30, 50) and region.side_px == pytest.approx(90)
    assert region.roll_rad == pytest.approx(math.pi / 4)  # y down: the right eye lower is a clockwise roll


def test_region_of_points_levels_the_eyes_and_bounds_the_face():
    points = torch.rand((POINT_COUNT, 3), generator=torch.Generator().manual_seed(0)) * torch.tensor(
        [120.0, 80.0, 30.0]
    )
    points[OUTER_EYE_CORNERS[0]], points[OUTER_EYE_CORNERS[1]] = (
        torch.tensor([30.0, 40, 0]),
        torch.tensor([90.0, 40, 0]),
    )
    low, high = points[:, :2].amin(0), points[:, :2].amax(0)
    level = region_of_points(points)
    assert level.roll_rad == pytest.approx(0) and level.side_px == pytest.approx(MARGIN * float((high - low).max()))
    assert level.centre_xy == pytest.approx(((low + high) / 2).tolist(), abs=1e-3)
    turned = Region((500.0, 300.0), MESH_INPUT_PX * 2.0, 1.1).to_photo(points)  # turned by 1.1, enlarged twice
    region = region_of_points(turned)
    assert region.roll_rad == pytest.approx(1.1, abs=1e-5)
    assert region.side_px == pytest.approx(2 * level.side_px, rel=1e-5)
    middle = Region((500.0, 300.0), MESH_INPUT_PX * 2.0, 1.1).to_photo(torch.tensor([[*level.centre_xy, 0.0]]))[0]
    assert region.centre_xy == pytest.approx(middle[:2].tolist(), abs=1e-2)


def test_points_settle(builtin, photo):
    network = builtin.networks.mesh
    face = builtin.find(photo)[0].points
    eye_distance = (face[OUTER_EYE_CORNERS[0]] - face[OUTER_EYE_CORNERS[1]]).norm()
    passes = [face]
    for _ in range(4):
        passes.append(settle_points(network, photo.rgb, passes[-1], passes=1))
    steps = [float((after - before)[:, :2].norm(dim=1).mean() / eye_distance) for before, after in pairwise(passes)]
    assert steps[1] < 0.01 and steps[2] < 0.006  # three passes leave 0.2 to 1 %
    assert torch.equal(settle_points(network, photo.rgb, face, passes=2), passes[2])


def test_poor_starts_settle_on_the_same_points(builtin, photo):
    settled = settle_points(builtin.networks.mesh, photo.rgb, builtin.find(photo)[0].points)
    good = region_of_points(settled)
    eye_distance = (settled[OUTER_EYE_CORNERS[0]] - settled[OUTER_EYE_CORNERS[1]]).norm()
    for shift, zoom, roll in ((10, 1.0, 0.0), (0, 1.25, 0.0), (-6, 0.85, 0.25)):
        poor = Region((good.centre_xy[0] + shift, good.centre_xy[1] - shift), good.side_px * zoom, good.roll_rad + roll)
        first = locate_points(builtin.networks.mesh, photo.rgb, [poor])[0].points
        again = settle_points(builtin.networks.mesh, photo.rgb, first)
        assert (again - settled)[:, :2].norm(dim=1).mean() < 0.015 * eye_distance  # 1 % at most after three passes


def test_a_batch_of_regions_gives_what_each_gives_alone(builtin, photo):
    regions = [Region((225.0, 124.0), 160.0, 0.05), Region((230.0, 120.0), 200.0, -0.3)]
    both = locate_points(builtin.networks.mesh, photo.rgb, regions)
    for region, together in zip(regions, both, strict=True):
        alone = locate_points(builtin.networks.mesh, photo.rgb, [region])[0]
        # Other sums in a batch of two: the networks' own tolerance, 2e-4 of their range.
        assert_close(together.points, alone.points, atol=0.03, rtol=0)
        assert together.presence == pytest.approx(alone.presence, abs=1e-3)
