"""Crops equal to Pillow's to the last bit, and a placement that rounds as published."""

import numpy as np
import pytest
import torch
from PIL import Image

from hrn_opt.hrn.align.face_crop import Placement, align, cut, place
from hrn_opt.hrn.exact.pillow_crop import CHEAP_AREA, _crop_alone, resize_and_crop
from hrn_opt.hrn.frames import CROP_PX, DETAIL_CROP_PX

EYES_AND_NOSE = [-0.31, 0.28, 0.61], [0.3, 0.27, 0.6], [0.0, -0.04, 0.93]
STANDARD = np.array([*EYES_AND_NOSE, [-0.25, -0.45, 0.64], [0.26, -0.44, 0.65]])
FIVE = ((36, 39), (42, 45), (30,), (48,), (54,))  # which of the 68 points each standard point is the mean of


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def sixty_eight(five_xy: np.ndarray) -> torch.Tensor:
    """(68, 2) landmarks whose five points are five_xy (5, 2); the others must not matter."""
    points = np.full((68, 2), np.nan)
    for numbers, point in zip(FIVE, five_xy, strict=True):
        points[list(numbers)] = point
    return torch.from_numpy(points)


def frontal(scale_px: float, middle_xy: tuple[float, float]) -> torch.Tensor:
    """Landmarks of the standard face seen from the front, its origin at middle_xy."""
    return sixty_eight(np.array(middle_xy) + scale_px * STANDARD[:, :2] * [1, -1])


@pytest.mark.parametrize(
    ("photo_hw", "size_wh", "left", "top", "crop_px"),
    [
        pytest.param((61, 83), (166, 122), 20, 11, 64, id="twice as large"),
        pytest.param((61, 83), (301, 95), 100, 17, 70, id="larger, unequally"),
        pytest.param((160, 203), (71, 47), 3, 5, 32, id="smaller"),
        pytest.param((300, 401), (29, 23), 2, 1, 17, id="much smaller"),
        pytest.param((90, 70), (70, 133), 6, 20, 50, id="columns as they are"),
        pytest.param((45, 77), (77, 45), 4, 3, 30, id="as it is"),
        pytest.param((50, 40), (67, 81), -9, -13, 64, id="over the top left"),
        pytest.param((50, 40), (67, 81), 31, 40, 64, id="over the bottom right"),
        pytest.param((50, 40), (33, 21), -20, -17, 80, id="all round"),
        pytest.param((50, 40), (33, 21), 33, 4, 16, id="beside it"),
        pytest.param((50, 40), (33, 21), 4, -16, 16, id="above it"),
        pytest.param((3, 2), (40, 50), 1, 2, 37, id="tiny photo"),
        pytest.param((37, 53), (1, 1), 0, 0, 3, id="down to one pixel"),
    ],
)
def test_crop_equals_pillow_to_the_last_bit(photo_hw, size_wh, left, top, crop_px):
    photo = noise(*photo_hw)
    resized = Image.fromarray(photo).resize(size_wh, Image.Resampling.BICUBIC)
    expected = np.asarray(resized.crop((left, top, left + crop_px, top + crop_px)))
    np.testing.assert_array_equal(resize_and_crop(photo, size_wh, left, top, crop_px), expected)
    np.testing.assert_array_equal(_crop_alone(photo, size_wh, left, top, crop_px), expected)


@pytest.mark.parametrize("side", [55, 56])
def test_crops_of_large_photos_do_not_resize_the_whole(side, monkeypatch):
    """55² is the largest square of at most three times 32²."""
    assert 55**2 <= CHEAP_AREA * 32**2 < 56**2
    photo = noise(30, 41)
    expected = np.asarray(Image.fromarray(photo).resize((side, side), Image.Resampling.BICUBIC))[7:39, 9:41]
    if side == 56:
        monkeypatch.setattr("hrn_opt.hrn.exact.pillow_crop.Image", None)
    np.testing.assert_array_equal(resize_and_crop(photo, (side, side), 9, 7, 32), expected)


def test_crop_saturates_as_pillow_does():
    """Bicubic weights overshoot at hard edges; Pillow cuts between its two passes too."""
    photo = np.where(noise(40, 31) > 127, 255, 0).astype(np.uint8)
    expected = np.asarray(Image.fromarray(photo).resize((77, 55), Image.Resampling.BICUBIC))[5:45, 9:49]
    np.testing.assert_array_equal(_crop_alone(photo, (77, 55), 9, 5, 40), expected)


def test_placement_of_a_frontal_face():
    """scale 102 / 150 of a photo 480 high and 640 wide; upstream flips y round h − 1, so the middle lies 1 px lower."""
    placement = place(frontal(150, (301.3, 222.7)), STANDARD, (480, 640), CROP_PX)
    scale = 102 / 150
    assert placement.size_wh == (435, 326)  # 435.2 and 326.4
    assert placement.left == int(435 / 2 - 112 + (301.3 - 320) * scale) == 92  # 92.78
    assert placement.top == int(326 / 2 - 112 + (223.7 - 240) * scale) == 39  # 39.92
    larger = place(frontal(150, (301.3, 222.7)), STANDARD, (480, 640), DETAIL_CROP_PX)
    assert larger.size_wh == (994, 746)  # 994.74 and 746.06


def test_offsets_are_cut_towards_zero():
    """PARITY: -0.6 becomes 0, not -1."""
    scale = 102 / 150
    middle = 320 + (-0.6 - (435 / 2 - 112)) / scale, 239 + (-0.6 - (326 / 2 - 112)) / scale
    placement = place(frontal(150, middle), STANDARD, (480, 640), CROP_PX)
    assert (placement.left, placement.top) == (0, 0)
    further = place(frontal(150, (middle[0] - 1 / scale, middle[1] - 1 / scale)), STANDARD, (480, 640), CROP_PX)
    assert (further.left, further.top) == (-1, -1)


def test_ties_fall_as_one_least_squares_system_rounds():
    """PARITY: on these cases the exact offset is whole, so the last bit of the ten-equation solution decides."""
    below, above = 0, 0
    for case in range(40):
        yaw, scale_px = 0.1 * (case % 5 - 2), 180 + 10 * (case // 5)
        x = np.cos(yaw) * STANDARD[:, 0] + np.sin(yaw) * STANDARD[:, 2]
        landmarks = sixty_eight(np.stack([320 + scale_px * x, 330 - scale_px * STANDARD[:, 1]], 1))
        placement = place(landmarks, STANDARD, (640, 640), CROP_PX)
        shift, scale = ten_equations(landmarks.numpy(), 640)
        size = int(640 * 102 / scale)
        left = size / 2 - 112 + (shift[0] - 320) * (102 / scale)
        top = size / 2 - 112 + (320 - shift[1]) * (102 / scale)
        assert (placement.size_wh, placement.left, placement.top) == ((size, size), int(left), int(top)), case
        below, above = below + (left < round(left)), above + (left >= round(left))
    assert below and above  # else there was no tie to decide


def ten_equations(landmarks: np.ndarray, height: int) -> tuple[np.ndarray, float]:
    """Shift and scale, the five points' x and y in turns as the rows of one system."""
    points = np.stack([landmarks[list(numbers)].mean(0) for numbers in FIVE])
    points[:, 1] = height - 1 - points[:, 1]
    rows, wanted = [], []
    for standard, (x, y) in zip(STANDARD, points, strict=True):
        rows += [[*standard, 1, 0, 0, 0, 0], [0, 0, 0, 0, *standard, 1]]
        wanted += [[x], [y]]
    found = np.linalg.lstsq(np.array(rows), np.array(wanted), rcond=None)[0].ravel()
    return found[[3, 7]], (np.linalg.norm(found[:3]) + np.linalg.norm(found[4:7])) / 2


def test_align_cuts_the_same_view_at_both_sizes():
    photo = noise(300, 420, seed=1)
    landmarks = frontal(90, (190.0, 160.0))
    crops, large = align(photo, landmarks, STANDARD), place(landmarks, STANDARD, (300, 420), 512)
    for picture, placement, size in ((crops.image, crops.placement, 224), (crops.detail, large, 512)):
        assert picture.shape == (3, size, size) and placement.crop_px == size
        expected = torch.from_numpy(cut(photo, placement).copy()).permute(2, 0, 1) / 255
        assert picture.dtype == torch.float32 and torch.equal(picture, expected)
    np.testing.assert_array_equal((crops.image * 255).round().byte().permute(1, 2, 0), crops.rgb)
    middle = torch.tensor([112.0, 112.0])
    apart = crops.placement.to_photo(middle, (300, 420)) - large.to_photo(middle * 512 / 224, (300, 420))
    assert apart.abs().max() < 2.5  # both offsets are cut to whole pixels, and one is 0.9 photo px


def test_crop_pixels_go_back_to_the_photo():
    placement = Placement(size_wh=(200, 450), left=-10, top=30, crop_px=224)
    there = placement.to_photo(torch.tensor([[10.0, -30.0], [110.0, 120.0]]), (300, 100))
    torch.testing.assert_close(there, torch.tensor([[0.0, 0.0], [50.0, 100.0]]))
