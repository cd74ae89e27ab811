"""Writes tests/data/find_reference.npz: what OpenCV, face-alignment and the published pipeline make of small inputs.

The fast tests of finding and widening hold ours against it, so that they need none of the three. Run from the
repository's root, with what tests/oracle/official_find.py lists installed:

    python -m tools.find_reference
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch

from tests.oracle.official_find import official_modules, waving_picture, with_points

SEED = 5
OUTPUT = Path("tests", "data", "find_reference.npz")


def main():
    random = np.random.default_rng(SEED)
    official = official_modules()
    crop = waving_picture(random, (224, 224))
    parts = [_resized(random), _strokes(random), _regressed(random, official), _fan(crop, random, official)]
    parts.append(_widened(crop, random, official))
    reference = {name: array for part in parts for name, array in part.items()} | {"crop": crop}
    np.savez_compressed(OUTPUT, **reference)
    print(f"{OUTPUT}: {OUTPUT.stat().st_size / 1e3:.0f} kB")


def _resized(random: np.random.Generator) -> dict[str, np.ndarray]:
    picture = random.integers(0, 256, (60, 82, 3), dtype=np.uint8)
    sizes = {"smaller": (41, 53), "larger": (70, 131), "half": (30, 41)}
    resized = {"picture": picture}
    for name, (height, width) in sizes.items():
        for kind, flag in (("linear", cv2.INTER_LINEAR), ("cubic", cv2.INTER_CUBIC)):
            resized[f"{kind}_{name}"] = cv2.resize(picture, (width, height), interpolation=flag)
    return resized


def _strokes(random: np.random.Generator) -> dict[str, np.ndarray]:
    """Lines of every direction, some of them over the border, at an odd and an even thickness; and one blurred."""
    corners = random.integers(-20, 160, (6, 3, 2))
    masks = []
    for thickness in (5, 12):
        mask = np.zeros((120, 140), np.uint8)
        for line in corners:
            for start, end in (line[:2], line[1:]):
                cv2.line(mask, start.tolist(), end.tolist(), 255, thickness)
        masks.append(mask)
    blurred = cv2.GaussianBlur(masks[0], (25, 25), 0)
    return {"line_corners": corners, "line_masks": np.packbits(np.stack(masks) > 0, axis=-1), "blurred": blurred}


def _regressed(random: np.random.Generator, official) -> dict[str, np.ndarray]:
    w1, b1, w2 = (random.normal(0, 0.3, shape) for shape in ((20, 10), (20, 1), (3, 20)))
    params = {"W1": w1, "B1": b1, "W2": w2 / 10, "B2": np.array([[-2.2], [-2.4], [50.0]])}
    photo = waving_picture(random, (150, 170))
    # In the middle; at the lower right border, where the crop comes out short; far out, where there is none.
    places = np.array([(80.0, 70.0), (165.0, 140.0), (-140.0, 60.0)])
    shape = np.array([(-20.0, -15.0), (20.0, -15.0), (0.0, 3.0), (-15.0, 20.0), (15.0, 21.0)])
    fives = places[:, None] + np.array([1.0, 3.0, 1.0])[:, None, None] * shape
    answers = [official.utils.align_for_lm(photo, five, params) for five in fives]
    crops = np.stack([crop for crop, scale, _ in answers if scale])
    boxes = np.stack([box for _, _, box in answers])
    scales = np.array([scale for _, scale, _ in answers])
    named = {"w1": w1, "b1": b1, "w2": params["W2"], "b2": params["B2"]}
    own = {"photo": photo, "fives": fives, "boxes": boxes, "scales": scales, "point_crops": crops}
    return named | own


def _fan(crop: np.ndarray, random: np.random.Generator, official) -> dict[str, np.ndarray]:
    utils = official.alignment.utils
    centre, scale = np.array([130.2, 96.7]), 1.31
    seen = utils.crop(crop, torch.from_numpy(centre), scale)
    heatmaps = random.normal(size=(1, 20, 64, 64)).astype(np.float32).round(1)
    heatmaps[:, :4] = 0  # ties everywhere: the first place counts
    heatmaps[0, 1, 0, 5] = heatmaps[0, 2, 63, 63] = heatmaps[0, 3, 30, 0] = 9  # no neighbour to lean towards
    places, points, _ = utils.get_preds_fromhm(heatmaps.copy(), centre, scale)
    return {
        "fan_view": np.array([*centre, scale]),
        "fan_seen": seen,
        "heatmaps": (heatmaps * 10).astype(np.int8),
        "heatmap_places": places[0],
        "fan_points": points[0],
    }


def _widened(crop: np.ndarray, random: np.random.Generator, official) -> dict[str, np.ndarray]:
    points, box = with_points(random)
    pipeline = official.pipeline.FaceReconstructionPipeline.__new__(official.pipeline.FaceReconstructionPipeline)
    pipeline.infer_lmks = lambda _: ([dict(zip(("x1", "y1", "x2", "y2"), box.tolist(), strict=True))], [points])
    return {"points": points, "box": box, "widened": pipeline.fat_face(crop, degree=0.03)}


if __name__ == "__main__":
    main()
