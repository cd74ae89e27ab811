"""From a rough idea of where a face is to its 478 points: a turned square crop, the mesh network, and again.

The region is MediaPipe's: a square of 1.5 times the longer side, turned so that the eyes are level
(face_landmark_front graph). Each pass crops by the points of the pass before.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from hrn_opt.builtin.networks import MESH_INPUT_PX, AttentionMesh
from hrn_opt.builtin.points import OUTER_EYE_CORNERS

MARGIN = 1.5
# Three passes settle the crop: the first leaves 1–4 % of the eye distance, the third 0.2–1 %.
PASSES = 3


@dataclass(frozen=True)
class Region:
    """A square of the photo, turned: centre (x, y) and side in photo pixels, roll in radians, clockwise as seen."""

    centre_xy: tuple[float, float]
    side_px: float
    roll_rad: float

    def to_photo(self, points: Tensor) -> Tensor:
        """Photo pixels of crop points (..., 3) in network pixels; z takes the scale of x."""
        depth = points[..., 2:] * (self.side_px / MESH_INPUT_PX)
        return torch.cat([self.to_photo_xy(points[..., :2], MESH_INPUT_PX), depth], -1)

    def to_photo_xy(self, points: Tensor, crop_px: int) -> Tensor:
        """Photo pixels of points (..., 2) of a crop that is crop_px wide."""
        centred = (points - crop_px / 2) * (self.side_px / crop_px)
        return centred @ _turn(self.roll_rad).T + torch.tensor(self.centre_xy)


@dataclass(frozen=True)
class FacePoints:
    """points: (478, 3) float32 photo pixels, z in the same unit, negative is nearer.
    presence: 0..1.
    """

    points: Tensor
    presence: float

    @property
    def bounds(self) -> Tensor:
        """(4,) left, top, right, bottom."""
        return torch.cat([self.points[:, :2].amin(0), self.points[:, :2].amax(0)])


def region_of_detection(box: Tensor, eyes: Tensor) -> Region:
    """box: (4,) left, top, right, bottom.
    eyes: (2, 2), the picture's left and right one of the upright face.
    """
    left, top, right, bottom = box.tolist()
    side = MARGIN * max(right - left, bottom - top)
    return Region(((left + right) / 2, (top + bottom) / 2), side, eye_angle_rad(eyes))


def region_of_points(points: Tensor) -> Region:
    """The region round (478, 3) face points."""
    roll = eye_angle_rad(points[list(OUTER_EYE_CORNERS)])
    level = points[:, :2] @ _turn(roll)  # eyes along x
    low, high = level.amin(0), level.amax(0)
    centre = ((low + high) / 2) @ _turn(roll).T
    return Region((float(centre[0]), float(centre[1])), MARGIN * float((high - low).max()), roll)


def locate_points(network: AttentionMesh, photo_rgb: np.ndarray, regions: list[Region]) -> list[FacePoints]:
    """One pass of the network over each region, as one batch."""
    crops = torch.stack([crop_region(photo_rgb, region) for region in regions])  # (B, 3, 192, 192)
    output = network(crops)
    return [
        FacePoints(region.to_photo(output.points[index]), float(output.presence[index]))
        for index, region in enumerate(regions)
    ]


def settle_points(network: AttentionMesh, photo_rgb: np.ndarray, first: Tensor, passes: int = PASSES - 1) -> Tensor:
    """(478, 3) points after further passes from those of a first one."""
    points = first
    for _ in range(passes):
        points = locate_points(network, photo_rgb, [region_of_points(points)])[0].points
    return points


def crop_region(photo_rgb: np.ndarray, region: Region, crop_px: int = MESH_INPUT_PX) -> Tensor:
    """(3, crop_px, crop_px) float32 in 0..1 of a (height, width, 3) uint8 photo; its border is repeated outside."""
    half_diagonal = region.side_px / 2 * (abs(math.cos(region.roll_rad)) + abs(math.sin(region.roll_rad)))
    shrink = max(int(region.side_px / crop_px), 1)  # whole-pixel averaging before sampling, against aliasing
    patch, origin_xy = _reduced_patch(photo_rgb, region.centre_xy, half_diagonal + 2 * shrink, shrink)
    image = torch.from_numpy(patch).permute(2, 0, 1)[None].float() / 255  # (1, 3, h, w)
    along = (torch.arange(crop_px) + 0.5) / crop_px - 0.5
    y, x = torch.meshgrid(along, along, indexing="ij")
    offset = torch.stack([x, y], -1) @ _turn(region.roll_rad).T * region.side_px  # (crop_px, crop_px, 2)
    patch_xy = (offset + torch.tensor(region.centre_xy) - origin_xy) / shrink
    size_wh = torch.tensor([patch.shape[1], patch.shape[0]])
    return F.grid_sample(image, (2 * patch_xy / size_wh - 1)[None], padding_mode="border", align_corners=False)[0]


def _reduced_patch(
    photo_rgb: np.ndarray, centre_xy: tuple[float, float], reach_px: float, shrink: int
) -> tuple[np.ndarray, Tensor]:
    """The photo around a point, averaged over shrink × shrink pixels, and the photo position of its top-left corner."""
    height, width = photo_rgb.shape[:2]
    left, right = _span(centre_xy[0], reach_px, width)
    top, bottom = _span(centre_xy[1], reach_px, height)
    patch = np.ascontiguousarray(photo_rgb[top:bottom, left:right])
    if shrink > 1:
        patch = np.asarray(Image.fromarray(patch).reduce(shrink))
    return np.array(patch), torch.tensor([float(left), float(top)])


def _span(middle: float, reach: float, size: int) -> tuple[int, int]:
    """Whole pixels within reach of middle, at least one of them inside 0..size."""
    start = min(max(math.floor(middle - reach), 0), size - 1)
    return start, max(min(math.ceil(middle + reach), size), start + 1)


def _turn(angle_rad: float) -> Tensor:
    """(2, 2) rotation that takes the crop's x axis to the eye line (y down)."""
    cosine, sine = math.cos(angle_rad), math.sin(angle_rad)
    return torch.tensor([[cosine, -sine], [sine, cosine]])


def eye_angle_rad(eyes: Tensor) -> float:
    """How far the line from the first to the second of two eyes (2, 2 or 3) is turned clockwise, as seen."""
    along = eyes[1] - eyes[0]
    return math.atan2(float(along[1]), float(along[0]))
