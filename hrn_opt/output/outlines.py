"""The faces that were found, outlined on a picture of their photo; needs no torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from hrn_opt.types import Box

LONGEST_PX = 1280  # of a picture for people: none needs to be larger than a screen
_CHOSEN_RGB, _OTHER_RGB = (0, 196, 170), (255, 255, 255)
_RIM_RGB = (20, 28, 30)  # round every line, so that it shows on any photo
_LEAST_LABEL_PX = 14


def outlines(
    picture: NDArray[np.uint8], boxes: Sequence[Box], scale: float, chosen: int | None = None
) -> NDArray[np.uint8]:
    """(h, w, 3) uint8: the picture with every box on it, and its number, from 1, when there are several.

    picture: (h, w, 3) uint8, the photo brought down by `scale`.
    boxes: in photo pixels.
    scale: picture / photo.
    chosen: the face, counted from 0, whose box has the colour; None for all of them.
    """
    drawn = Image.fromarray(picture)
    draw = ImageDraw.Draw(drawn)
    line_px = max(2, round(max(drawn.size) / 320))
    for number, box in reversed(list(enumerate(boxes))):  # the largest face's label lies on top
        colour = _CHOSEN_RGB if chosen in (None, number) else _OTHER_RGB
        corners = _on_picture(box, scale, drawn.size)
        draw.rectangle(
            [corners[0] - 1, corners[1] - 1, corners[2] + 1, corners[3] + 1], outline=_RIM_RGB, width=line_px + 2
        )
        draw.rectangle(corners, outline=colour, width=line_px)
        if len(boxes) > 1:
            _label(draw, str(number + 1), corners, colour)
    return np.array(drawn)


def _on_picture(box: Box, scale: float, size_wh: tuple[int, int]) -> list[float]:
    """The box on the picture, as far as it lies within: left, top, right, bottom."""
    left, right = sorted(min(max(x * scale, 0), size_wh[0] - 1) for x in (box.left, box.right))
    top, bottom = sorted(min(max(y * scale, 0), size_wh[1] - 1) for y in (box.top, box.bottom))
    return [left, top, right, bottom]


def _label(draw: ImageDraw.ImageDraw, text: str, box: list[float], colour: tuple[int, int, int]) -> None:
    """The number on a ground of the box's colour, in its top left corner."""
    size_px = max(_LEAST_LABEL_PX, round((box[3] - box[1]) * 0.16))
    font = ImageFont.load_default(size_px)
    pad = size_px * 0.3
    _, _, width, height = draw.textbbox((0, 0), text, font=font)
    draw.rectangle([box[0], box[1], box[0] + width + 2 * pad, box[1] + height + 2 * pad], fill=colour)
    draw.text((box[0] + pad, box[1] + pad), text, font=font, fill=_RIM_RGB)
