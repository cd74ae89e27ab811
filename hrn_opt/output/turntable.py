"""The face turning to and fro: pictures for the page, and one animated file."""

from __future__ import annotations

import io
import math
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from hrn_opt.errors import Stopped
from hrn_opt.machine import usable_cpus
from hrn_opt.output.render import SUPERSAMPLING, image_of, portrait
from hrn_opt.runtime import torch_threads
from hrn_opt.types import Mesh, UVTexture

FRAME_COUNT = 30
# The published turntable turns as far with π = 3.14. These pictures are our own view of the face, so nothing has to
# equal it.
LARGEST_YAW_RAD = math.pi / 6
FRAME_PX = 512
FRAME_MS = 50
_WEBP_QUALITY, _WEBP_EFFORT = 85, 2  # effort 4 takes nearly twice the time for 5 % fewer bytes


def turntable(
    mesh: Mesh, texture: UVTexture, frame_px: int = FRAME_PX, stop: threading.Event | None = None
) -> tuple[NDArray[np.uint8], ...]:
    """30 pictures (frame_px, frame_px, 3) uint8 of the textured face, turning from the picture's left to its right.

    stop: looked at before each picture; raises Stopped.
    """
    image = image_of(_no_finer_than(texture, frame_px * SUPERSAMPLING))
    yaws_rad = np.linspace(-LARGEST_YAW_RAD, LARGEST_YAW_RAD, FRAME_COUNT).tolist()

    def picture(yaw_rad: float) -> NDArray[np.uint8]:
        if stop is not None and stop.is_set():
            raise Stopped("Stopped among the pictures of the turntable.")
        with torch.inference_mode(), torch_threads(1):
            return portrait(mesh, image, yaw_rad, (frame_px, frame_px))

    # Whole pictures side by side share the processors out better than torch does a small picture's parts.
    with ThreadPoolExecutor(usable_cpus(), thread_name_prefix="hrn-opt-turntable") as threads:
        return tuple(threads.map(picture, yaws_rad))


def webp_bytes(frames: tuple[NDArray[np.uint8], ...]) -> bytes:
    """The frames forth and back as one endless animated WebP."""
    first, *rest = map(Image.fromarray, (*frames, *frames[-2:0:-1]))
    stream = io.BytesIO()
    animation = {"save_all": True, "append_images": rest, "duration": FRAME_MS, "loop": 0}
    first.save(stream, "WEBP", quality=_WEBP_QUALITY, method=_WEBP_EFFORT, **animation)
    return stream.getvalue()


def _no_finer_than(texture: UVTexture, size: int) -> UVTexture:
    """The texture shrunk to at most size: a finer one would shimmer, and be turned into floats for each picture."""
    if texture.size <= size:
        return texture
    rgb, visibility = (
        np.array(Image.fromarray(values).resize((size, size), Image.Resampling.BOX))
        for values in (texture.rgb, texture.visibility)
    )
    return UVTexture(rgb, visibility)
