"""Every face of a photo with its 68 points, as the published pipeline finds them for one.

The stages and their order are P.predict_base's: photo brought to size → boxes → 106 points, twice → 68 points.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from hrn_opt.hrn.exact.opencv_resize import resize_cubic
from hrn_opt.hrn.find.boxes import Detection, detect
from hrn_opt.hrn.find.crops import Square, cut_for_points, square_around
from hrn_opt.hrn.find.landmarks import (
    BoxRegressor,
    PointsView,
    best_faces,
    points_68,
    points_106,
    square_around_points,
    view_for_points,
)
from hrn_opt.hrn.networks.landmarks106 import Landmarks106
from hrn_opt.hrn.networks.retinaface import RetinaFace
from hrn_opt.hrn.networks.s3fd import S3FD
from hrn_opt.types import Box

LARGEST_PHOTO_PX = 2000  # a photo with a longer side is worked on
REDUCED_PHOTO_PX = 1500  # at this size
PIXEL_CENTRE = 0.5  # what upstream's points lack: they count from pixel centres
FACES_AT_ONCE = 8  # through a network: S3FD takes 25 MB each in float32


@dataclass(frozen=True)
class FindNetworks:
    """What finding needs.

    fan: the TorchScript archive's module, (B, 3, 256, 256) → heatmaps.
    regressor: BBRegressorParam_r.mat.
    faces_at_once: most that go through one of them together.
    """

    retinaface: RetinaFace
    landmarks106: Landmarks106
    s3fd: S3FD
    fan: nn.Module
    regressor: BoxRegressor
    faces_at_once: int = FACES_AT_ONCE


@dataclass(frozen=True)
class WorkingPhoto:
    """The photo as every later stage sees it. Its points count from pixel centres, as upstream: the centre of the
    top-left pixel is (0, 0), where it is (0.5, 0.5) in photo pixels.

    rgb: (height, width, 3) uint8, the photo itself or reduced.
    photo_size_hw: of the photo.
    """

    rgb: np.ndarray
    photo_size_hw: tuple[int, int]

    @property
    def size_hw(self) -> tuple[int, int]:
        return self.rgb.shape[0], self.rgb.shape[1]

    def to_photo(self, points: Tensor) -> Tensor:
        """Photo pixels (..., 2) of working points."""
        return (points + PIXEL_CENTRE) / self._scale(points)

    def from_photo(self, points: Tensor) -> Tensor:
        """Working points (..., 2) of photo pixels, the way back from `to_photo`."""
        return points * self._scale(points) - PIXEL_CENTRE

    def box_to_photo(self, box: Box) -> Box:
        """The box in photo pixels."""
        across, down = self._scale(torch.zeros(2, dtype=torch.float64)).tolist()
        return Box(box.left / across, box.top / down, box.right / across, box.bottom / down)

    def _scale(self, points: Tensor) -> Tensor:
        (height, width), (photo_height, photo_width) = self.size_hw, self.photo_size_hw
        return points.new_tensor([width / photo_width, height / photo_height])


@dataclass(frozen=True)
class FoundFace:
    """One face; boxes and points in pixels of the working photo, whole numbers at the pixels' centres.

    points: (68, 2) float32.
    score: RetinaFace's, 0..1.
    """

    box: Box
    points: Tensor
    score: float


def working_photo(photo_rgb: np.ndarray) -> WorkingPhoto:
    """The photo itself up to 2000 px a side, else brought to 1500 px, as upstream (every later stage works on that)."""
    height, width = photo_rgb.shape[:2]
    if max(height, width) <= LARGEST_PHOTO_PX:
        return WorkingPhoto(photo_rgb, (height, width))
    return WorkingPhoto(resize_cubic(photo_rgb, long_side_size((height, width), REDUCED_PHOTO_PX)), (height, width))


def long_side_size(size_hw: tuple[int, int], long_px: int) -> tuple[int, int]:
    """The size with the longer side at `long_px` and the shorter one cut to whole pixels."""
    height, width = size_hw
    if height > width:
        return long_px, max(1, int(width * (long_px / height)))
    return max(1, int(height * (long_px / width))), long_px


def find_faces(networks: FindNetworks, photo: WorkingPhoto) -> tuple[FoundFace, ...]:
    """Every face with its points, largest box first, then by score; without those that lie outside the photo, or are
    no face on a closer look. The published pipeline takes the one with the best score alone.
    """
    (detections,) = detect(networks.retinaface, [photo.rgb])
    faces: list[FoundFace] = []
    for start in range(0, len(detections), networks.faces_at_once):
        faces += _with_points(networks, photo.rgb, detections[start : start + networks.faces_at_once])
    return tuple(sorted(faces, key=lambda face: -face.box.area))


def _with_points(networks: FindNetworks, rgb: np.ndarray, detections: Sequence[Detection]) -> list[FoundFace]:
    """The faces of those boxes, in their order, of which points can be had."""
    closer = closer_points(networks.landmarks106, [rgb] * len(detections), detections)
    views = {i: view_for_points(networks.regressor, points, rgb.shape[:2]) for i, points in closer.items()}
    views = {i: view for i, view in views.items() if view.window.shows(rgb.shape[:2])}
    return [
        FoundFace(detections[i].box, torch.from_numpy(points).float(), detections[i].score)
        for i, points in _points_68(networks, rgb, views).items()
    ]


def closer_points(
    network: Landmarks106, photos: Sequence[np.ndarray], detections: Sequence[Detection]
) -> dict[int, np.ndarray]:
    """Which detection → its 106 points (106, 2) float64, for those whose crops show some of their photo.

    photos: one for each detection. The points of a first crop, round the box, choose the second, which counts.
    """
    boxes = [detection.box for detection in detections]
    squares = {i: square_around(box.left, box.top, box.right, box.bottom) for i, box in enumerate(boxes)}
    coarse = _points_of(network, photos, squares)
    return _points_of(network, photos, {i: square_around_points(points) for i, points in coarse.items()})


def _points_of(
    network: Landmarks106, photos: Sequence[np.ndarray], squares: Mapping[int, Square]
) -> dict[int, np.ndarray]:
    visible = {i: square for i, square in squares.items() if square.window.shows(photos[i].shape[:2])}
    if not visible:
        return {}
    points = points_106(network, [photos[i] for i in visible], list(visible.values()))
    return dict(zip(visible, points, strict=True))


def _points_68(networks: FindNetworks, rgb: np.ndarray, views: Mapping[int, PointsView]) -> dict[int, np.ndarray]:
    """(68, 2) float64 photo pixels for each view in which S3FD sees a face."""
    if not views:
        return {}
    crops = np.stack([cut_for_points(rgb, view.window) for view in views.values()])  # (B, 224, 224, 3)
    fan_views = best_faces(networks.s3fd, crops)
    fan_views = {b: view for b, view in fan_views.items() if view.window.shows(crops.shape[1:3])}
    if not fan_views:
        return {}
    points = points_68(networks.fan, crops[list(fan_views)], list(fan_views.values()))
    keys = list(views)
    return {keys[b]: views[keys[b]].to_photo(own) for b, own in zip(fan_views, points, strict=True)}
