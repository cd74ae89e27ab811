"""The photo that everything is measured on, and where its face is."""

from __future__ import annotations

from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
PHOTO = ROOT / "examples" / "astronaut.jpg"
SKIN = np.ones((224, 224), np.float32)  # all of the crop; where the mask lies costs no time


def _landmarks() -> np.ndarray:
    """(68, 2) about where the photo's face is: only the crop's scale depends on it."""
    ring = np.linspace(0, 2 * np.pi, 68, endpoint=False)
    points = np.stack([225 + 45 * np.cos(ring), 125 + 50 * np.sin(ring)], 1)
    points[[36, 39, 42, 45]] = [[192, 105], [212, 105], [238, 105], [258, 105]]
    points[[30, 48, 54]] = [[225, 130], [207, 152], [243, 152]]
    return points


LANDMARKS = _landmarks()
