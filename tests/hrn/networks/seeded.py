"""Seeded numbers for weights and pictures, and how far two answers are apart."""

import torch
from torch import Tensor

WIDTH = 4


def randn(*shape: int, scale: float = 1.0) -> Tensor:
    return torch.randn(*shape) * scale


def relative_error(ours: Tensor, theirs: Tensor) -> float:
    return ((ours.double() - theirs).norm() / theirs.norm()).item()
