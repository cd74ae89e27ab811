"""The 68 landmarks of iBUG from the attention mesh's 478 points, for models that need those.

Which mesh point lies on which landmark follows from what each is: iBUG's scheme numbers jaw, brows, nose, eyes and
mouth, the mesh names the same places. Laid over the mean landmarks that HRN aligns to (similarity_Lm3D_all.mat), the
canonical face's are off by 4 % of the distance of the outer eye corners in the mean, those of the jaw by
twice that; the jaw's were chosen so, among the outline's. 3D-FAN's own answers were not at hand to compare with.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from hrn_opt.builtin.align import settle_points
from hrn_opt.builtin.confirm import find_faces
from hrn_opt.builtin.weights import BuiltinNetworks, load_networks
from hrn_opt.types import Box, Face, Photo

JAW = (127, 234, 93, 132, 58, 136, 150, 176, 152, 400, 379, 365, 288, 361, 323, 454, 356)  # his right ear to his left
BROWS = (70, 63, 105, 66, 107, 336, 296, 334, 293, 300)
NOSE = (168, 197, 5, 4, 98, 97, 2, 326, 327)  # the bridge down to the tip, then along the nostrils
EYES = (33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380)
OUTER_LIPS = (61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181)
INNER_LIPS = (78, 82, 13, 312, 308, 317, 14, 87)
LANDMARKS_68 = (*JAW, *BROWS, *NOSE, *EYES, *OUTER_LIPS, *INNER_LIPS)


def landmarks_68(points: Tensor) -> Tensor:
    """(68, 2) float64 of mesh points (478, 3), in the same frame."""
    return points[list(LANDMARKS_68), :2].double()


def landmark_finder() -> Callable[[Photo], tuple[Face, ...]]:
    """Finds every face of a photo, largest first, with its 68 landmarks: (68, 2) float64 photo pixels."""
    return _Finder(load_networks())


class _Finder:
    def __init__(self, networks: BuiltinNetworks):
        self._networks = networks

    def __call__(self, photo: Photo) -> tuple[Face, ...]:
        faces = []
        for located in find_faces(self._networks, photo.rgb):
            points = settle_points(self._networks.mesh, photo.rgb, located.points)
            faces.append(Face(Box(*located.bounds.tolist()), landmarks_68(points), located.presence))
        return tuple(sorted(faces, key=lambda face: face.box.area, reverse=True))
