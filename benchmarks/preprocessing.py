"""The photo brought to the networks' frame: as published, both crops by resizing the whole photo, and as here."""

from __future__ import annotations

import contextlib
import importlib
import io

import numpy as np
import torch
from PIL import Image

from benchmarks.face import LANDMARKS, PHOTO
from benchmarks.measure import Pair, time_pairs
from benchmarks.official import PACKAGE
from hrn_opt.hrn.align.face_crop import FACE_SCALE_PX, align
from hrn_opt.hrn.frames import CROP_PX, DETAIL_CROP_PX
from hrn_opt.hrn.pack.prepared import PreparedPack

SIDES_PX = (512, 2000)  # larger photos are brought to 1500 px before


def measure_preprocessing(pack: PreparedPack, runs: int) -> tuple[Pair, ...]:
    """At two sizes of the photo, the same part of which is the face."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        utils = importlib.import_module(f"{PACKAGE}.utils")
    standard = pack.tensor("align.lm3d")
    return tuple(_pair(utils, standard, side, runs) for side in SIDES_PX)


def _pair(utils, standard: torch.Tensor, side: int, runs: int) -> Pair:
    photo = Image.open(PHOTO).convert("RGB")
    scale = side / photo.width
    picture = photo.resize((side, round(photo.height * scale)), Image.Resampling.LANCZOS)
    rgb, landmarks = np.asarray(picture), LANDMARKS * scale
    points = landmarks.copy()
    points[:, 1] = len(rgb) - 1 - points[:, 1]

    def published() -> list[np.ndarray]:
        crops = []
        for crop_px in (CROP_PX, DETAIL_CROP_PX):
            options = {"target_size": crop_px, "rescale_factor": FACE_SCALE_PX * crop_px / CROP_PX}
            crops.append(np.array(utils.align_img(picture, points, standard.numpy(), **options)[1]) / 255.0)
        return crops

    def ours() -> list[torch.Tensor]:
        crops = align(rgb, torch.from_numpy(landmarks), standard)
        return [crops.image, crops.detail]

    for theirs, own in zip(published(), ours(), strict=True):
        if not np.array_equal(np.rint(theirs * 255), np.rint(own.permute(1, 2, 0).numpy() * 255)):
            raise RuntimeError(f"at {side} px the crops differ from the published ones")
    return time_pairs(f"both crops of a photo of {side} px", published, ours, runs)
