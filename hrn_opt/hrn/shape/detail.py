"""Mid and high frequencies: a deformation of the mesh, a displacement of its surface, and the normals that follow.

Source: forward in the official facerecon_model.py, displacement2normal in bfm.py, vertex_normals in utils.py.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hrn_opt.hrn.frames import DEFORMATION_PX, UV_PX

NETWORK_GAIN = 0.1  # on both networks' outputs, with the trained alpha and beta
ERODE_PX, BLUR_PX = 3, 11
# The published grid of normals leaves a margin: cells from column 2 and row 5 on, as far from the other side.
MARGIN_X, MARGIN_Y = 2, 5


def smooth_mask(mask: Tensor) -> Tensor:
    """(B, 1, H, W): drawn in by one texel, then softened; the border mirrors without repeating its line.

    mask: (B, 1, H, W) float32 in 0..1. Equal to OpenCV's 3×3 erosion and 11×11 mean.
    """
    eroded = -F.max_pool2d(-mask, ERODE_PX, stride=1, padding=ERODE_PX // 2)
    padded = F.pad(eroded.double(), (BLUR_PX // 2,) * 4, mode="reflect")
    rows = F.avg_pool2d(padded, (1, BLUR_PX), stride=1)
    return F.avg_pool2d(rows, (BLUR_PX, 1), stride=1).float()


def mid_deformation(network: nn.Module, alpha: Tensor, position: Tensor, texture: Tensor, mask: Tensor) -> Tensor:
    """(B, 3, 64, 64) deformation of the vertices, decimetres.

    position: (B, 3, 256, 256).
    texture: (B, 3, 256, 256) in 0..1.
    mask: (B, 1, 256, 256), smoothed.
    """
    large = (position, (texture - 0.5) * 2, mask)
    *inputs, small_mask = (F.interpolate(values, (DEFORMATION_PX, DEFORMATION_PX), mode="bilinear") for values in large)
    predicted: Tensor = network(torch.cat(inputs, 1))
    return predicted * NETWORK_GAIN * alpha * small_mask


def high_displacement(
    network: nn.Module, beta: Tensor, position: Tensor, texture: Tensor, deformation: Tensor, mask: Tensor
) -> Tensor:
    """(B, 1, 256, 256) displacement along the normals, decimetres.

    texture: (B, 3, 256, 256) in 0..1, unwrapped again with the deformed vertices.
    deformation: (B, 3, 64, 64).
    """
    enlarged = F.interpolate(deformation, (UV_PX, UV_PX), mode="bilinear")
    inputs = torch.cat([position, (texture - 0.5) * 2, enlarged], 1)
    predicted: Tensor = network(inputs)
    return predicted * NETWORK_GAIN * beta * mask


def detail_normals(position: Tensor, normals: Tensor, displacement: Tensor) -> Tensor:
    """(B, 3, 256, 256) normals of the displaced surface.

    position, normals: (B, 3, 256, 256) of the coarse surface, viewer's frame.
    displacement: (B, 1, 256, 256). The coarse normals keep their values where nothing is displaced: only the change
    that the displacement makes to the grid's own normals is added.
    """
    flat, raised = _grid_normals(position), _grid_normals(position + displacement * normals)
    return raised + (normals - flat)


def _grid_normals(position: Tensor) -> Tensor:
    """(B, 3, H, W) normals of the triangulated grid of positions (B, 3, H, W), 0 in its margin.

    PARITY: x and y have the sign that the published triangles give them, turned round; test_detail.py pins it.
    """
    height, width = position.shape[2:]
    rows, columns = slice(MARGIN_Y, height - 1 - MARGIN_Y), slice(MARGIN_X, width - 1 - MARGIN_X)
    below, right = slice(MARGIN_Y + 1, height - MARGIN_Y), slice(MARGIN_X + 1, width - MARGIN_X)
    top_left, bottom_left = position[:, :, rows, columns], position[:, :, below, columns]
    top_right, bottom_right = position[:, :, rows, right], position[:, :, below, right]
    diagonal = bottom_left - top_right
    upper = torch.linalg.cross(bottom_left - top_left, top_right - top_left, dim=1)
    lower = torch.linalg.cross(diagonal, bottom_right - top_right, dim=1)
    total = torch.zeros_like(position)
    total[:, :, rows, columns] += upper
    total[:, :, below, right] += lower
    both = upper + lower
    total[:, :, below, columns] += both
    total[:, :, rows, right] += both
    return F.normalize(total, eps=1e-6, dim=1) * position.new_tensor([-1, -1, 1]).view(1, 3, 1, 1)
