"""Where faces may be: BlazeFace over the whole photo, over its tiles, and turned when it seems to lie.

Input preparation and decoding follow MediaPipe's face_detection module: letterbox with black, boxes relative to
anchor centres, weighted non-maximum suppression (Bazarevsky et al. 2019).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from hrn_opt.builtin.anchors import anchor_centres
from hrn_opt.builtin.networks import DETECTOR_INPUT_PX, BlazeFace
from hrn_opt.resize import resize_longest

TILED_PX = 448  # longest side of the photo under the 2×2 tiles, which overlap by 64 px
MIN_SCORE = 0.5
# An upright face over 0.06 of the photo scores at least 0.8. One turned by more than 90° can score 0.6 to 0.78, its
# eyes misplaced; what scores less is mostly no face (measured on a portrait turned in steps of 30°).
SURE_SCORE = 0.8
DOUBTFUL_SCORE = 0.6
# Faces over 0.04 of the photo reach 0.8 at any roll; things on their side that the mesh network takes for a face, 0.67.
TURNED_MIN_SCORE = 0.7
# Small things score high by chance (part of a rocket 0.70, a cheetah's coat 0.51, presence 1.0 and 0.94); a face too
# dim or too far turned to score more is worth having only when it fills a tenth of the photo.
SMALL_FACE = 0.1
SMALL_MIN_SCORE = 0.75
SAME_FACE_IOU = 0.3
SAME_FACE_COVER = 0.6  # of the smaller box: a box round a whole head and one round its face are one face
# Only where nothing sure was found: the photo at this size in overlapping tiles, for faces under 0.03 of it.
FINE_TILED_PX = 960
TILE_OVERLAP_PX = 64


@dataclass(frozen=True)
class Candidates:
    """Possible faces, best first.

    boxes: (K, 4) float32 left, top, right, bottom, photo pixels.
    eyes: (K, 2, 2) float32, the photo's-left and the photo's-right eye of the upright face, photo pixels.
    scores: (K,) float32 in 0..1.
    """

    boxes: Tensor
    eyes: Tensor
    scores: Tensor

    def __len__(self) -> int:
        return len(self.scores)


def detect(network: BlazeFace, photo_rgb: np.ndarray) -> Candidates:
    """Every likely face of a (height, width, 3) uint8 photo, best first, at any roll."""
    found = _detect_all(network, photo_rgb)
    small = (found.boxes[:, 2] - found.boxes[:, 0]) < SMALL_FACE * max(photo_rgb.shape)
    return _chosen(found, found.scores >= torch.where(small, SMALL_MIN_SCORE, DOUBTFUL_SCORE))


def _detect_all(network: BlazeFace, photo_rgb: np.ndarray) -> Candidates:
    """Candidates of any score; finer tiles and the photo's sides and top are looked at only when in doubt."""
    upright = _detect_upright(network, photo_rgb)
    if not (upright.scores >= SURE_SCORE).any():
        fine = _detect_in(network, _tiles(resize_longest(photo_rgb, FINE_TILED_PX), photo_rgb.shape))
        upright = _merged(_concatenate([upright, fine]))
    likely = upright.scores[upright.scores >= DOUBTFUL_SCORE]
    if len(likely) and likely.min() >= SURE_SCORE:
        return upright
    turned = [_detect_turned(network, photo_rgb, quarter_turns) for quarter_turns in (1, 2, 3)]
    return _best_of_each(_concatenate(_consistent(upright, turned)))


def _consistent(upright: Candidates, turned: list[Candidates]) -> list[Candidates]:
    """Of the orientation with the best candidate all that is likely, of the others only what is sure.

    The mesh network takes some weak candidates for faces that only show on their side, the tail of a space shuttle for
    one.
    """
    orientations = [upright, *(_at_least(found, TURNED_MIN_SCORE) for found in turned)]
    best = max(orientations, key=lambda found: found.scores[:1].sum())
    return [found if found is best else _at_least(found, SURE_SCORE) for found in orientations]


def _at_least(found: Candidates, score: float) -> Candidates:
    return _chosen(found, found.scores >= score)


def _chosen(found: Candidates, kept: Tensor) -> Candidates:
    """kept: (K,) bool."""
    return Candidates(found.boxes[kept], found.eyes[kept], found.scores[kept])


def _detect_turned(network: BlazeFace, photo_rgb: np.ndarray, quarter_turns: int) -> Candidates:
    """Candidates of the photo turned counter-clockwise by quarter turns, in the unturned photo's pixels."""
    found = _detect_upright(network, np.rot90(photo_rgb, quarter_turns))
    corners = _turn_back(found.boxes.view(-1, 2, 2), quarter_turns, photo_rgb.shape[:2])
    boxes = torch.cat([corners.amin(1), corners.amax(1)], 1)
    return Candidates(boxes, _turn_back(found.eyes, quarter_turns, photo_rgb.shape[:2]), found.scores)


def _turn_back(points: Tensor, quarter_turns: int, size_hw: tuple[int, int]) -> Tensor:
    """Points (..., 2) of np.rot90(photo, quarter_turns) in the photo's own pixels."""
    height, width = size_hw
    x, y = points.unbind(-1)
    turned = {1: (width - y, x), 2: (width - x, height - y), 3: (y, height - x)}
    return torch.stack(turned[quarter_turns], -1)


def _detect_upright(network: BlazeFace, photo_rgb: np.ndarray) -> Candidates:
    tiled = resize_longest(photo_rgb, TILED_PX)
    windows = [_letterboxed(tiled, photo_rgb.shape)]
    if max(tiled.shape) > DETECTOR_INPUT_PX:
        windows += _tiles(tiled, photo_rgb.shape)
    return _detect_in(network, windows)


def _detect_in(network: BlazeFace, windows: list[_Window]) -> Candidates:
    raw = network(torch.stack([window.image for window in windows]))  # (B, 3, 256, 256)
    found = [_decode(raw.regressors[k], raw.logits[k], window) for k, window in enumerate(windows)]
    return _merged(_concatenate(found))


@dataclass(frozen=True)
class _Window:
    """A square of the photo: image (3, 256, 256) float32 in -1..1; photo = window_px * scale + origin."""

    image: Tensor
    scale_xy: Tensor
    origin_xy: Tensor


def _letterboxed(tiled: np.ndarray, photo_shape: tuple) -> _Window:
    whole = resize_longest(tiled, DETECTOR_INPUT_PX)
    scale = torch.tensor([photo_shape[1] / whole.shape[1], photo_shape[0] / whole.shape[0]])
    return _Window(_to_input(whole), scale, torch.zeros(2))


def _tiles(tiled: np.ndarray, photo_shape: tuple) -> list[_Window]:
    height, width = tiled.shape[:2]
    scale = torch.tensor([photo_shape[1] / width, photo_shape[0] / height])
    windows = []
    for top, left in product(_starts(height), _starts(width)):
        tile = tiled[top : top + DETECTOR_INPUT_PX, left : left + DETECTOR_INPUT_PX]
        windows.append(_Window(_to_input(tile), scale, torch.tensor([left, top]) * scale))
    return windows


def _starts(length: int) -> list[int]:
    """Where tiles start along a side: evenly, overlapping by at least TILE_OVERLAP_PX, the last one ending with it."""
    last = max(length - DETECTOR_INPUT_PX, 0)
    steps = -(-last // (DETECTOR_INPUT_PX - TILE_OVERLAP_PX))
    return [round(step * last / steps) for step in range(steps + 1)] if steps else [0]


def _to_input(rgb: np.ndarray) -> Tensor:
    """(3, 256, 256) in -1..1, black (-1) right of and below the picture."""
    image = torch.from_numpy(np.array(rgb)).permute(2, 0, 1).float() / 127.5 - 1
    return F.pad(image, (0, DETECTOR_INPUT_PX - image.shape[2], 0, DETECTOR_INPUT_PX - image.shape[1]), value=-1.0)


def _decode(regressors: Tensor, logits: Tensor, window: _Window) -> Candidates:
    """Anchors above the score, in photo pixels.

    regressors: (896, 16).   logits: (896,).
    """
    scores = logits.clamp(-100, 100).sigmoid()
    kept = (scores >= MIN_SCORE).nonzero().squeeze(1)
    raw = regressors[kept].view(-1, 8, 2)  # centre, size, then six points
    centres = anchor_centres()[kept, None] * DETECTOR_INPUT_PX
    middle, size = raw[:, :1] + centres, raw[:, 1:2]
    points = torch.cat([middle - size / 2, middle + size / 2, raw[:, 2:4] + centres], 1)  # (K, 4, 2)
    points = points * window.scale_xy + window.origin_xy
    return Candidates(points[:, :2].flatten(1), points[:, 2:], scores[kept])


def _concatenate(parts: list[Candidates]) -> Candidates:
    return Candidates(*(torch.cat([getattr(part, name) for part in parts]) for name in ("boxes", "eyes", "scores")))


def _merged(found: Candidates) -> Candidates:
    """One candidate for each group of overlapping ones: their mean, weighted by score; the best score."""
    merged = []
    for group in _groups(found):
        weight = (found.scores[group] / found.scores[group].sum())[:, None]
        boxes, eyes = (found.boxes[group] * weight).sum(0), (found.eyes[group] * weight[..., None]).sum(0)
        merged.append(Candidates(boxes[None], eyes[None], found.scores[group[:1]]))
    return _concatenate(merged) if merged else found


def _best_of_each(found: Candidates) -> Candidates:
    """The best candidate of each overlapping group, as it is: eyes of different orientations must not be mixed."""
    best = torch.tensor([int(group[0]) for group in _groups(found)], dtype=torch.int64)
    return Candidates(found.boxes[best], found.eyes[best], found.scores[best])


def _groups(found: Candidates) -> list[Tensor]:
    """Index groups of overlapping candidates, each best first, best group first."""
    free = found.scores.argsort(descending=True)
    groups = []
    while len(free):
        same = overlap(found.boxes[free[0]], found.boxes[free]) > SAME_FACE_IOU
        same[0] = True
        groups.append(free[same])
        free = free[~same]
    return groups


def overlap(box: Tensor, boxes: Tensor) -> Tensor:
    """(K,) intersection over union of one box (4,) with boxes (K, 4)."""
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    shared = _shared(box, boxes)
    return shared / ((box[2:] - box[:2]).prod() + areas - shared).clamp(min=1e-9)


def same_face(box: Tensor, boxes: Tensor) -> Tensor:
    """(K,) bool: which boxes (K, 4) show what one box (4,) shows, alike or one inside the other."""
    smaller = torch.minimum((boxes[:, 2:] - boxes[:, :2]).prod(1), (box[2:] - box[:2]).prod())
    nested = _shared(box, boxes) > SAME_FACE_COVER * smaller
    return nested | (overlap(box, boxes) > SAME_FACE_IOU)


def _shared(box: Tensor, boxes: Tensor) -> Tensor:
    """(K,) area common to one box (4,) and each of boxes (K, 4)."""
    low, high = torch.maximum(box[:2], boxes[:, :2]), torch.minimum(box[2:], boxes[:, 2:])
    return (high - low).clamp(min=0).prod(1)
