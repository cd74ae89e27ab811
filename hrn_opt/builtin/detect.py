"""Where faces may be: BlazeFace over the whole photo, over its tiles, and turned by quarter turns.

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
from hrn_opt.builtin.candidates import Candidates, concatenate, merge
from hrn_opt.builtin.networks import DETECTOR_INPUT_PX, BlazeFace, RawDetections
from hrn_opt.photo.resize import resize_longest

WINDOWS_AT_ONCE = 2  # 6.1 ms each; one at a time 6.9, five 8.0, 25 at once 18: the features leave the cache
TILED_PX = 448  # longest side of the photo under the 2×2 tiles, which overlap by 64 px
TILE_OVERLAP_PX = 64
FINE_TILED_PX = 960  # and under finer tiles, for faces under 0.05 of the photo
FINE_GAIN = 1.3  # a photo shorter than this times TILED_PX shows nothing more in finer tiles
SMALL_FACE = 0.1  # of the photo's longer side
MIN_SCORE = 0.5
# The coarse tiles see a face of 0.04 of the photo at 0.2 at least (80 of 80 portraits), and half of them under 0.75.
TRACE_SCORE = 0.2
LIKELY_SCORE = 0.75
SURE_SCORE = 0.85


@dataclass(frozen=True)
class Views:
    """A photo (height, width, 3) uint8, and the same at most TILED_PX long."""

    photo_rgb: np.ndarray
    tiled_rgb: np.ndarray

    @classmethod
    def of(cls, photo_rgb: np.ndarray) -> Views:
        return cls(photo_rgb, resize_longest(photo_rgb, TILED_PX))

    @property
    def small_px(self) -> float:
        """The width under which a face is small, photo pixels."""
        return SMALL_FACE * float(max(self.photo_rgb.shape))

    def turned(self, quarter_turns: int) -> Views:
        """Counter-clockwise."""
        return Views(np.rot90(self.photo_rgb, quarter_turns), np.rot90(self.tiled_rgb, quarter_turns))


def detect_turned(network: BlazeFace, views: Views, quarter_turns: int) -> Candidates:
    """Candidates of the photo turned counter-clockwise by quarter turns, in the unturned photo's pixels."""
    found = detect_upright(network, views.turned(quarter_turns))
    corners = _turn_back(found.boxes.view(-1, 2, 2), quarter_turns, views.photo_rgb.shape[:2])
    boxes = torch.cat([corners.amin(1), corners.amax(1)], 1)
    return Candidates(boxes, _turn_back(found.eyes, quarter_turns, views.photo_rgb.shape[:2]), found.scores)


def _turn_back(points: Tensor, quarter_turns: int, size_hw: tuple[int, int]) -> Tensor:
    """Points (..., 2) of np.rot90(photo, quarter_turns) in the photo's own pixels."""
    height, width = size_hw
    x, y = points.unbind(-1)
    turned = {1: (width - y, x), 2: (width - x, height - y), 3: (y, height - x)}
    return torch.stack(turned[quarter_turns], -1)


def detect_upright(network: BlazeFace, views: Views) -> Candidates:
    """Large candidates of the whole photo first, which no tile cuts; then those of tiles, the best first."""
    photo_shape = views.photo_rgb.shape
    whole = merge(_detect_in(network, [_letterboxed(views.tiled_rgb, photo_shape)]))
    if max(views.tiled_rgb.shape) <= DETECTOR_INPUT_PX:
        return whole
    traces = concatenate([whole, _detect_in(network, _tiles(views.tiled_rgb, photo_shape), TRACE_SCORE)])
    fine = _detect_in(network, _fine_tiles(views, traces))
    large = whole.chosen(whole.widths >= views.small_px)
    return concatenate([large, merge(concatenate([traces.chosen(traces.scores >= MIN_SCORE), fine]))])


def _fine_tiles(views: Views, candidates: Candidates) -> list[_Window]:
    """Those finer tiles that may hold a small face not seen well; all of them when nothing sure was seen."""
    doubtful = candidates.chosen((candidates.widths < views.small_px) & (candidates.scores < LIKELY_SCORE))
    all_of_them = not (candidates.scores >= SURE_SCORE).any()
    if max(views.photo_rgb.shape) <= FINE_GAIN * TILED_PX or not (all_of_them or len(doubtful)):
        return []
    tiles = _tiles(resize_longest(views.photo_rgb, FINE_TILED_PX), views.photo_rgb.shape)
    middles = doubtful.boxes.view(-1, 2, 2).mean(1)
    return [tile for tile in tiles if all_of_them or tile.holds(middles).any()]


def _detect_in(network: BlazeFace, windows: list[_Window], least: float = MIN_SCORE) -> Candidates:
    """Candidates of at least a score in the windows, unmerged, in photo pixels."""
    raw = run_detector(network, [window.image for window in windows])
    found = [decode(raw.regressors[k], raw.logits[k], least) for k in range(len(windows))]
    return concatenate([window.to_photo(one) for window, one in zip(windows, found, strict=True)])


def run_detector(network: BlazeFace, images: list[Tensor]) -> RawDetections:
    """The network over images (3, 256, 256), a few at a time."""
    batches = [torch.stack(images[k : k + WINDOWS_AT_ONCE]) for k in range(0, len(images), WINDOWS_AT_ONCE)]
    raw = [network(batch) for batch in batches]
    if not raw:
        return RawDetections(torch.zeros(0, 896, 16), torch.zeros(0, 896))
    return RawDetections(torch.cat([one.regressors for one in raw]), torch.cat([one.logits for one in raw]))


@dataclass(frozen=True)
class _Window:
    """A square of the photo: image (3, 256, 256) float32 in -1..1; photo = window_px * scale + origin."""

    image: Tensor
    scale_xy: Tensor
    origin_xy: Tensor

    def holds(self, points: Tensor) -> Tensor:
        """(K,) bool: which points (K, 2), photo pixels, lie inside."""
        inside = (points - self.origin_xy) / (self.scale_xy * DETECTOR_INPUT_PX)
        return ((inside >= 0) & (inside <= 1)).all(1)

    def to_photo(self, found: Candidates) -> Candidates:
        boxes = found.boxes.view(-1, 2, 2) * self.scale_xy + self.origin_xy
        return Candidates(boxes.flatten(1), found.eyes * self.scale_xy + self.origin_xy, found.scores)


def _letterboxed(tiled: np.ndarray, photo_shape: tuple[int, ...]) -> _Window:
    whole = resize_longest(tiled, DETECTOR_INPUT_PX)
    scale = torch.tensor([photo_shape[1] / whole.shape[1], photo_shape[0] / whole.shape[0]])
    return _Window(_to_input(whole), scale, torch.zeros(2))


def _tiles(tiled: np.ndarray, photo_shape: tuple[int, ...]) -> list[_Window]:
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


def decode(regressors: Tensor, logits: Tensor, least: float = MIN_SCORE) -> Candidates:
    """Anchors of at least a score, in window pixels.

    regressors: (896, 16).
    logits: (896,).
    """
    scores = logits.clamp(-100, 100).sigmoid()
    kept = (scores >= least).nonzero().squeeze(1)
    raw = regressors[kept].view(-1, 8, 2)  # centre, size, then six points
    centres = anchor_centres()[kept, None] * DETECTOR_INPUT_PX
    middle, size = raw[:, :1] + centres, raw[:, 1:2]
    boxes = torch.cat([middle - size / 2, middle + size / 2], 1).flatten(1)  # (K, 4)
    return Candidates(boxes, raw[:, 2:4] + centres, scores[kept])
