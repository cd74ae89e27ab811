"""Pictures for people: the mesh laid over its photo, a displacement map that shows."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from hrn_opt.geometry.raster import interpolate, rasterize
from hrn_opt.output.outlines import LONGEST_PX
from hrn_opt.photo.resize import resize_longest
from hrn_opt.types import Camera, Mesh, Photo, Reconstruction

SUPERSAMPLING = 2
_CLAY_RGB = (214.0, 232.0, 229.0)
_AMBIENT = 0.25  # light where the surface is seen edge-on
_OPACITY = 0.72


def overlay(photo: Photo, reconstruction: Reconstruction, longest_px: int = LONGEST_PX) -> NDArray[np.uint8]:
    """(h, w, 3) uint8: the photo with the shaded mesh over it; the reconstruction must have a mesh."""
    rgb = resize_longest(photo.rgb, longest_px)
    mesh = reconstruction.mesh
    if mesh is None:
        raise ValueError('an overlay needs a mesh; reconstruct with want="mesh" or more')
    points = reconstruction.camera.project(mesh.vertices) * torch.tensor(
        [rgb.shape[1] / photo.size_hw[1], rgb.shape[0] / photo.size_hw[0], 1.0]
    )
    low = points[:, :2].amin(0).floor().clamp(min=0).long().tolist()
    high = points[:, :2].amax(0).ceil().long().tolist()
    left, right = min(low[0], rgb.shape[1] - 1), min(max(high[0], low[0] + 1), rgb.shape[1])
    top, bottom = min(low[1], rgb.shape[0] - 1), min(max(high[1], low[1] + 1), rgb.shape[0])
    local = points - points.new_tensor([left, top, 0])
    shade = _shaded(local, mesh, reconstruction.camera, (bottom - top, right - left))  # (h, w, 2)
    picture: NDArray[np.uint8] = rgb.copy()
    patch = torch.from_numpy(picture[top:bottom, left:right]).float()
    covered = _OPACITY * shade[..., 1:]
    clay = shade[..., :1] * torch.tensor(_CLAY_RGB)
    picture[top:bottom, left:right] = (patch * (1 - covered) + _OPACITY * clay).round().byte().numpy()
    return picture


def _shaded(points: Tensor, mesh: Mesh, camera: Camera, size_hw: tuple[int, int]) -> Tensor:
    """(H, W, 2) 0..1, antialiased: light times cover, and cover, of the mesh lit from the viewer's place.

    points: (N, 3) the vertices on the picture.
    """
    fine_hw = size_hw[0] * SUPERSAMPLING, size_hw[1] * SUPERSAMPLING
    fine = points * points.new_tensor([SUPERSAMPLING, SUPERSAMPLING, 1.0])
    fragments = rasterize(fine, mesh.faces, fine_hw)
    # The viewer's place is where x, y and w of the projection vanish together; for parallel rays it is a direction.
    viewer = torch.linalg.svd(camera.matrix[[0, 1, 3]].double())[2][3].float()
    to_viewer = F.normalize(viewer[:3] - viewer[3] * mesh.vertices, dim=1)
    facing = (mesh.normals * to_viewer).sum(1, keepdim=True).abs()  # a mask is seen from behind as well
    light = _AMBIENT + (1 - _AMBIENT) * interpolate(fragments, facing, mesh.faces)[..., 0]
    cover = fragments.covered.float()
    layers = torch.stack([light * cover, cover])[None]
    return F.avg_pool2d(layers, SUPERSAMPLING)[0].permute(1, 2, 0)


def displacement_view(displacement_map: NDArray[np.float32]) -> NDArray[np.uint8]:
    """(S, S) uint8 of the map (S, S) float32: mid-grey is none, white the most outwards or black the most inwards."""
    most = float(np.abs(displacement_map).max())
    scaled = displacement_map / most if most and math.isfinite(most) else np.zeros_like(displacement_map)
    levels: NDArray[np.uint8] = (128 + 127 * scaled).round().astype(np.uint8)
    return levels
