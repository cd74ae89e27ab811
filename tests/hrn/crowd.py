"""A made-up photo and faces on it, for tests of HRN that need no detector."""

import torch

from hrn_opt.types import Box, Face, Photo
from testing.synthetic_pack.pack import face_points


def _photo() -> Photo:
    """Smooth colours, 240 × 500: every face on it looks different."""
    coarse = torch.rand(1, 3, 7, 11, generator=torch.Generator().manual_seed(4))
    smooth = torch.nn.functional.interpolate(coarse, (240, 500), mode="bicubic").clamp(0, 1)[0]
    return Photo((smooth * 255).byte().permute(1, 2, 0).contiguous().numpy(), "crowd")


PHOTO = _photo()


def faces(count: int) -> tuple[Face, ...]:
    """Faces side by side, each smaller than the one before."""
    found = []
    for number in range(count):
        points = face_points() * [1, -1] * (75 - 10 * number) + [90 + 160 * number, 115]
        low, high = points.min(0).tolist(), points.max(0).tolist()
        found.append(Face(Box(*low, *high), torch.from_numpy(points), 0.9))
    return tuple(found)
