"""Which candidates are faces, and which way up they are: a second look at each by the detector and the mesh network.

The detector looks at each candidate alone, turned upright by the eyes that the first look saw and at the size that it
knows best. Where that leaves a doubt, the candidate is looked at in all four orientations, and the mesh network judges:
its points stay where they are between two passes on a face seen the right way up, and move on any other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hrn_opt.builtin.align import (
    FacePoints,
    Region,
    crop_region,
    eye_angle_rad,
    locate_points,
    region_of_detection,
    region_of_points,
)
from hrn_opt.builtin.candidates import Candidates, concatenate, merge, same_face
from hrn_opt.builtin.detect import LIKELY_SCORE, Views, decode, detect_turned, detect_upright, run_detector
from hrn_opt.builtin.networks import DETECTOR_INPUT_PX, BlazeFace
from hrn_opt.builtin.points import OUTER_EYE_CORNERS
from hrn_opt.builtin.weights import BuiltinNetworks

LOOK_SHARE = 0.4  # of the second look's window that the candidate fills; the detector separates best there
LOOK_REACH = 0.2  # of the window: what lies farther from its centre is another face
# Over 136 framings of 34 faces, upright and turned upside down: the second look scores 0.77 to 0.93 upright (median
# 0.88), 0.54 to 0.86 upside down. The mesh's points move by 0.006 to 0.08 of the eye distance in a second pass upright,
# by 0.013 to 0.19 upside down. Neither alone is always right; score · presence - 2 · step was, by 0.08 at least.
SURE_LOOK = 0.85  # upright and a face, without grading
SURE_PRESENCE = 0.9
STEP_COST = 2.0
# A right orientation needs no other look from this grade on, and a small thing alone in a photo must reach it to be a
# face: dogs' eyes, berries and wheels grade up to 0.74, small faces 0.72 to 0.92.
SURE_GRADE = 0.75
# Other things that are no faces grade up to 0.69 (110 photos without faces), faces 0.7 to 0.93; 7 of 272 framings, in
# profile or half covered, 0.48 to 0.69.
LEAST_GRADE = 0.7
LIKELY_LEAST_GRADE = 0.62  # of a large one that scored well at the first look, as most of those 7 do
MIN_PRESENCE = 0.5
# Most faces stand upright in their photo. A mask or a hand over the mouth takes away what tells up from down: hair over
# blue cloth graded 0.70 as a beard upside down and 0.65 upright.
UPRIGHT_RAD = math.radians(60)
TURNED_COST = 0.1  # none of 240 faces turned in steps of 30° came out otherwise for it
CROPS_AT_ONCE = 8  # 2.2 ms each, 4.4 alone


@dataclass(frozen=True)
class Sighting:
    """A candidate as a look in one orientation shows it.

    grade: at most 1; how much this seems to be a face seen the right way up.
    """

    located: FacePoints
    grade: float

    @property
    def worth(self) -> float:
        """The grade, less a penalty where the face does not stand upright in the photo."""
        roll_rad = eye_angle_rad(self.located.points[list(OUTER_EYE_CORNERS)])
        return self.grade - TURNED_COST * (abs(roll_rad) >= UPRIGHT_RAD)


def find_faces(networks: BuiltinNetworks, photo_rgb: np.ndarray) -> list[FacePoints]:
    """Every face of a (height, width, 3) uint8 photo, each once, at any roll; (478, 3) points of one or two passes."""
    views = Views.of(photo_rgb)
    found = _confirmed(networks, views, detect_upright(networks.detector, views))
    if not found:
        turned = [detect_turned(networks.detector, views, quarter_turns) for quarter_turns in (1, 2, 3)]
        found = _confirmed(networks, views, concatenate(turned).best_first())
    return found


def _confirmed(networks: BuiltinNetworks, views: Views, candidates: Candidates) -> list[FacePoints]:
    """The faces among the candidates. Large ones come first: tiles cut them, and the pieces resemble small faces."""
    small = candidates.widths < views.small_px
    sure = small & (candidates.scores >= SURE_LOOK)
    likely = small & ~sure & (candidates.scores >= LIKELY_SCORE)
    large = candidates.chosen(~small)
    least_large = torch.where(large.scores >= LIKELY_SCORE, LIKELY_LEAST_GRADE, LEAST_GRADE)
    found = _looked_at(networks, views, large, least_large.tolist(), [])
    found = found + _distinct(_locate(networks, views, _apart(candidates.chosen(sure), found)), found)
    least_grade = LEAST_GRADE if found else SURE_GRADE
    others = _apart(candidates.chosen(likely), found)
    # Beside sure faces the first look's score is enough: 2 ms each, against 5 to 30.
    located = _locate(networks, views, others) if found else _above(_graded(networks, views, others), least_grade)
    found = found + _distinct(located, found)
    doubtful = candidates.chosen(small & ~sure)
    return found + _looked_at(networks, views, doubtful, [least_grade] * len(doubtful), found)


def _above(sightings: list[Sighting], least_grade: float) -> list[FacePoints]:
    return [one.located for one in sightings if one.worth >= least_grade]


def _looked_at(
    networks: BuiltinNetworks, views: Views, candidates: Candidates, least_grades: list[float], known: list[FacePoints]
) -> list[FacePoints]:
    """The candidates, in their order, that a second look shows to be faces other than the known ones."""
    found: list[FacePoints] = []
    for index, least_grade in enumerate(least_grades):
        one = _apart(candidates.chosen(torch.tensor([index])), known + found)
        if len(one):
            # Beside faces that stand upright most others do: what grades well enough as it stands is not turned.
            sightings = _look_again(networks, views, one, enough=least_grade if known else SURE_GRADE)
            found = found + _distinct(_above(sightings, least_grade), known + found)
    return found


def _apart(candidates: Candidates, known: list[FacePoints]) -> Candidates:
    """Those that show none of the known faces."""
    if not known:
        return candidates
    boxes = torch.stack([face.bounds for face in known])
    return candidates.chosen(
        torch.tensor([not same_face(box, boxes).any() for box in candidates.boxes], dtype=torch.bool)
    )


def _distinct(located: list[FacePoints], known: list[FacePoints]) -> list[FacePoints]:
    """The real faces among them that are not known yet, each once, the first of two."""
    kept: list[FacePoints] = []
    for one in located:
        taken = [other.bounds for other in known + kept]
        if one.presence > MIN_PRESENCE and not (taken and same_face(one.bounds, torch.stack(taken)).any()):
            kept.append(one)
    return kept


def _look_again(networks: BuiltinNetworks, views: Views, one: Candidates, enough: float) -> list[Sighting]:
    """The candidate in its most likely orientation; none where the detector sees no face in any.

    enough: the grade from which the orientation that the first look saw needs no comparison with the others.
    """
    first = _look(networks.detector, views, one, (0,))
    if len(first) and first.scores[0] >= SURE_LOOK:
        located = _locate(networks, views, first)[0]
        if located.presence >= SURE_PRESENCE:
            return [Sighting(located, 1.0)]
    graded = _graded(networks, views, first)
    if not graded or graded[0].grade < enough:
        graded = graded + _graded(networks, views, _look(networks.detector, views, one, (1, 2, 3)))
    return sorted(graded, key=lambda sighting: sighting.worth)[-1:]


def _locate(networks: BuiltinNetworks, views: Views, candidates: Candidates) -> list[FacePoints]:
    """The mesh network's points of each."""
    regions = [region_of_detection(*pair) for pair in zip(candidates.boxes, candidates.eyes, strict=True)]
    return _locate_in(networks, views, regions)


def _locate_in(networks: BuiltinNetworks, views: Views, regions: list[Region]) -> list[FacePoints]:
    batches = [regions[k : k + CROPS_AT_ONCE] for k in range(0, len(regions), CROPS_AT_ONCE)]
    return [face for batch in batches for face in locate_points(networks.mesh, views.photo_rgb, batch)]


def _graded(networks: BuiltinNetworks, views: Views, candidates: Candidates) -> list[Sighting]:
    """Each candidate's grade: the detector's score × the mesh's presence − how far its points move in a second pass."""
    first = _locate(networks, views, candidates)
    second = _locate_in(networks, views, [region_of_points(one.points) for one in first])
    sightings = []
    for before, after, score in zip(first, second, candidates.scores.tolist(), strict=True):
        step = float((after.points - before.points)[:, :2].norm(dim=1).mean()) / _eye_distance(after.points)
        sightings.append(Sighting(after, score * after.presence - STEP_COST * step))
    return sightings


def _eye_distance(points: Tensor) -> float:
    return float((points[OUTER_EYE_CORNERS[1]] - points[OUTER_EYE_CORNERS[0]]).norm()) + 1e-6


def _look(network: BlazeFace, views: Views, one: Candidates, quarter_turns: tuple[int, ...]) -> Candidates:
    """The best candidate in the middle of each turned window round a single one."""
    low, high = one.boxes[0].view(2, 2)
    centre_xy, side_px = tuple(((low + high) / 2).tolist()), float((high - low).max()) / LOOK_SHARE
    roll_rad = eye_angle_rad(one.eyes[0])
    regions = [Region(centre_xy, side_px, roll_rad + turns * math.pi / 2) for turns in quarter_turns]
    raw = run_detector(network, [_crop(views, region) * 2 - 1 for region in regions])
    candidates = []
    for index, region in enumerate(regions):
        inside = merge(decode(raw.regressors[index], raw.logits[index]))
        offset = (inside.boxes.view(-1, 2, 2).mean(1) - DETECTOR_INPUT_PX / 2).norm(dim=1)
        middle = inside.chosen(offset < LOOK_REACH * DETECTOR_INPUT_PX).chosen(slice(1))
        candidates.append(_to_photo(middle, region))
    return concatenate(candidates)


def _crop(views: Views, region: Region) -> Tensor:
    """(3, 256, 256) in 0..1, from the small view where that has enough pixels: 23 ms less on 12 megapixels."""
    scale = max(views.tiled_rgb.shape) / max(views.photo_rgb.shape)
    if region.side_px * scale < DETECTOR_INPUT_PX:
        return crop_region(views.photo_rgb, region, DETECTOR_INPUT_PX)
    x, y = region.centre_xy
    in_view = Region((x * scale, y * scale), region.side_px * scale, region.roll_rad)
    return crop_region(views.tiled_rgb, in_view, DETECTOR_INPUT_PX)


def _to_photo(found: Candidates, region: Region) -> Candidates:
    """Photo pixels of candidates in the pixels of a region's window; boxes stay as large as they are upright."""
    corners = found.boxes.view(-1, 2, 2)
    middle = region.to_photo_xy(corners.mean(1), DETECTOR_INPUT_PX)
    half = (corners[:, 1] - corners[:, 0]) / 2 * region.side_px / DETECTOR_INPUT_PX
    eyes = region.to_photo_xy(found.eyes, DETECTOR_INPUT_PX)
    return Candidates(torch.cat([middle - half, middle + half], 1), eyes, found.scores)
