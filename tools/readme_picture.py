"""Make docs/example.jpg: the example photo, its texture, and the face turned, all by this program.

python tools/readme_picture.py
"""

import math
from pathlib import Path

import numpy as np
from PIL import Image

import hrn_opt
from hrn_opt.output.render import image_of, portrait

ROOT = Path(__file__).resolve().parent.parent
HEIGHT_PX = 420
YAWS_DEG = (-30, 0, 30)


def main() -> None:
    photo = hrn_opt.open_photo(ROOT / "examples" / "astronaut.jpg")
    face = hrn_opt.load("builtin").reconstruct(photo)
    tiles = [_square(photo.rgb), _square(face.texture.rgb)]
    tiles += [portrait(face.mesh, image_of(face.texture), math.radians(yaw), (HEIGHT_PX, 330)) for yaw in YAWS_DEG]
    Image.fromarray(np.concatenate(tiles, axis=1)).save(ROOT / "docs" / "example.jpg", quality=90)


def _square(rgb: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(rgb).resize((HEIGHT_PX, HEIGHT_PX), Image.Resampling.LANCZOS))


if __name__ == "__main__":
    main()
