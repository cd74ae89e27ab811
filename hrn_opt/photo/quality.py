"""Whether a face is worth the work: refused where nothing of the person would be left, advised on where it shows.

The limits were measured with the embedded model on the example photo, made smaller, darker with a noise of 2 grey
levels, and turned. How far a shape then lies from that of the whole photo is told in millimetres; the average face
lies 6.5 mm from it.
"""

from __future__ import annotations

import math

import numpy as np

from hrn_opt.errors import FaceTooSmall, FaceTurnedTooFar, PhotoTooDark
from hrn_opt.types import Advice, Face, Photo

LEAST_FACE_PX = 20  # 18 px across: 3.1 mm, and 13 grey levels in the texture; 12 px are not found
SMALL_FACE_PX = 48  # 46 px: 1.2 mm and 5 grey levels
LEAST_BRIGHTNESS = 10  # of 255; 11: 4.9 mm, and a texture off by 31 of its grey levels
DARK_BRIGHTNESS = 40  # 42: 1.7 mm, 8 grey levels
BRIGHT_PERCENTILE = 90  # highlights: they tell a dark photo from dark skin
MOST_YAW_DEG = 60.0  # the far half of the face then has a fourteenth of its pixels
TURNED_YAW_DEG = 25.0  # and here a third
COVERED_SHARE = 0.2  # of the face from the brows down; hair over a cheek covers less, a hand or a mask more
CLIPPED_SHARE = 0.03
_SAMPLES_A_SIDE = 200  # pixels looked at for the brightness


def assess_face(photo: Photo, face: Face) -> tuple[Advice, ...]:
    """What would make a better result; raises FaceTooSmall or PhotoTooDark where there would be none."""
    return (*_judge_size(face), *_judge_light(photo, face))


def assess_yaw(yaw_rad: float) -> tuple[Advice, ...]:
    """The same for how far the face is turned from the viewer, either way; raises FaceTurnedTooFar."""
    yaw_deg = abs(math.degrees(yaw_rad))
    if yaw_deg > MOST_YAW_DEG:
        raise FaceTurnedTooFar(
            f"The face is turned {yaw_deg:.0f}° away, so that one half of it does not show; "
            f"use a photo from the front or half side, up to {MOST_YAW_DEG:.0f}°.",
            yaw_deg=round(yaw_deg),
            most_deg=MOST_YAW_DEG,
        )
    if yaw_deg <= TURNED_YAW_DEG:
        return ()
    message = f"The face is turned {yaw_deg:.0f}° away: its far side is partly a mirror image of the near one."
    return (Advice("FaceTurned", message, {"yaw_deg": round(yaw_deg)}),)


def assess_skin(covered_share: float, clipped_share: float) -> tuple[Advice, ...]:
    """What would make a better texture.

    covered_share, clipped_share: of the face's middle, what something covers, and what is burnt out to white, 0..1.
    """
    advice = []
    if covered_share > COVERED_SHARE:
        message = "Something covers part of the face, or it lies in deep shadow: there, shape and colours are guessed."
        advice.append(Advice("FaceCovered", message, {"percent": round(100 * covered_share)}))
    if clipped_share > CLIPPED_SHARE:
        message = "Part of the face is burnt out to white: with softer light, its colours are better."
        advice.append(Advice("PhotoBright", message, {"percent": round(100 * clipped_share)}))
    return tuple(advice)


def brightness_of(photo: Photo, face: Face) -> float:
    """0..255, of the brightest tenth of the face's box."""
    height, width = photo.size_hw
    left, right = _inside(face.box.left, face.box.right, width)
    top, bottom = _inside(face.box.top, face.box.bottom, height)
    step = max(1, (right - left) // _SAMPLES_A_SIDE, (bottom - top) // _SAMPLES_A_SIDE)
    return float(np.percentile(photo.rgb[top:bottom:step, left:right:step].mean(2), BRIGHT_PERCENTILE))


def _judge_size(face: Face) -> tuple[Advice, ...]:
    width_px = min(face.box.width, face.box.height)
    if width_px < LEAST_FACE_PX:
        raise FaceTooSmall(
            f"The face is {width_px:.0f} pixels wide and needs {LEAST_FACE_PX}; "
            "use a closer or larger photo, not one that was made larger.",
            width_px=round(width_px),
            least_px=LEAST_FACE_PX,
        )
    if width_px >= SMALL_FACE_PX:
        return ()
    message = f"The face is only {width_px:.0f} pixels wide: from {SMALL_FACE_PX} on the likeness is better."
    return (Advice("FaceSmall", message, {"width_px": round(width_px), "good_px": SMALL_FACE_PX}),)


def _judge_light(photo: Photo, face: Face) -> tuple[Advice, ...]:
    brightness = brightness_of(photo, face)
    if brightness < LEAST_BRIGHTNESS:
        raise PhotoTooDark(
            "The face is almost black; use a photo with light on the face.",
            brightness=round(brightness),
            least=LEAST_BRIGHTNESS,
        )
    if brightness >= DARK_BRIGHTNESS:
        return ()
    message = "The face is dark: with more light on it, shape and colours are better."
    return (Advice("PhotoDark", message, {"brightness": round(brightness)}),)


def _inside(low: float, high: float, size: int) -> tuple[int, int]:
    """(start, stop) whole pixels within 0..size, at least one."""
    start = min(max(int(low), 0), size - 1)
    return start, min(max(math.ceil(high), start + 1), size)
