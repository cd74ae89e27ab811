"""The texture fit: 100 Adam steps on an offset to the shaded texture, so that its render meets the photo.

Source: forward(visualize=True) in the official facerecon_model.py, photo_loss and TVLoss in losses.py.
The geometry stands still, so the mesh is rasterised once; what is left of the renderer is a fixed sparse map A from
texels to pixels. With A and its transpose at hand the gradient is written down instead of recorded:

    loss = 1.92 · mean_p √(ε + |A(c + o) − target|²) + 10 · TV(o)
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hrn_opt.geometry.raster import Fragments, rasterize
from hrn_opt.geometry.sparse import SparseMap
from hrn_opt.hrn.frames import CENTRE_PX, CROP_PX, FOCAL_PX, UV_PX
from hrn_opt.runtime import run_repeatedly

Z_NEAR, Z_FAR = 5.0, 15.0
STEPS = 100
LEARNING_RATE = 1e-2
PHOTO_WEIGHT = 1.92
SMOOTHNESS_WEIGHT = 10.0
EPSILON = 1e-6
BETAS = (0.9, 0.999)
ADAM_EPSILON = 1e-8


@dataclass(frozen=True)
class Rendering:
    """The render of a textured mesh at the 224 px crop, and the texture's part of it as a sparse map.

    screen: (N, 3) vertices as crop x, crop y and depth.
    fragments: what each pixel of the crop shows.
    pixels: (P,) int64 flat numbers of the pixels that show the face.
    texels: (P, 4) int64 flat texels behind each pixel.
    weights: (P, 4) float32.
    """

    screen: Tensor
    fragments: Fragments
    pixels: Tensor
    texels: Tensor
    weights: Tensor


def rendering_of(camera: Tensor, triangles: Tensor, uv: Tensor) -> Rendering:
    """camera: (N, 3) camera-frame vertices.
    triangles: (F, 3).
    uv: (N, 2), v up.
    """
    screen = _screen(camera)
    fragments = rasterize(screen, triangles, (CROP_PX, CROP_PX))
    pixels = (fragments.covered & (fragments.depth >= -1) & (fragments.depth <= 1)).flatten().nonzero().squeeze(1)
    corners = triangles[fragments.triangle.flatten()[pixels]]  # (P, 3)
    weights = _perspective_weights(fragments, pixels, camera[:, 2][corners])
    at = (weights[..., None] * uv[corners]).sum(1)  # (P, 2)
    x, y = at[:, 0] * UV_PX - 0.5, (1 - at[:, 1]) * UV_PX - 0.5
    left, top = x.floor(), y.floor()
    right_share, bottom_share = x - left, y - top
    columns = [(left.long() + step) % UV_PX for step in (0, 1)]  # the published texture wraps round
    rows = [(top.long() + step) % UV_PX for step in (0, 1)]
    texels = torch.stack([row * UV_PX + column for row in rows for column in columns], 1)
    down, across = torch.stack([1 - bottom_share, bottom_share], 1), torch.stack([1 - right_share, right_share], 1)
    return Rendering(screen, fragments, pixels, texels, (down[:, :, None] * across[:, None]).flatten(1))


def fit_texture(colour: Tensor, target: Tensor, rendering: Rendering, steps: int = STEPS) -> Tensor:
    """(3, 256, 256) float32: colour plus the fitted offset.

    colour: (3, 256, 256) shaded texture, RGB about 0..1.
    target: (3, 224, 224) the photo, 0..1.
    """
    flat_colour = colour.flatten(1).T.contiguous()  # (65536, 3)
    wanted = target.flatten(1)[:, rendering.pixels].T  # (P, 3)
    to_pixels, to_texels = _maps(rendering)
    short_of = to_pixels(flat_colour) - wanted  # what the render misses by, without any offset
    neighbours = _neighbour_counts(flat_colour)
    offset, first, second = (torch.zeros_like(flat_colour) for _ in range(3))
    step_count = torch.zeros((), dtype=torch.float32, device=colour.device)

    def step() -> None:
        missing = to_pixels(offset).add_(short_of)
        squares = missing.square()
        length = (squares[:, 0] + squares[:, 1]).add_(squares[:, 2]).add_(EPSILON).sqrt_()
        gradient = to_texels(missing.div_(length[:, None]))
        _add_smoothness(gradient, offset, neighbours)
        _adam_step(offset, gradient, first, second, step_count)

    run_repeatedly(step, steps, colour.device)
    return colour + offset.T.view_as(colour)


def _screen(camera: Tensor) -> Tensor:
    """(N, 3) of pixel x, pixel y and the depth that OpenGL would give, -1 at Z_NEAR to 1 at Z_FAR."""
    x, y, z = camera.unbind(1)
    depth = ((Z_FAR + Z_NEAR) * z - 2 * Z_FAR * Z_NEAR) / ((Z_FAR - Z_NEAR) * z)
    return torch.stack([FOCAL_PX * x / z + CENTRE_PX, CENTRE_PX - FOCAL_PX * y / z, depth], 1)


def _perspective_weights(fragments: Fragments, pixels: Tensor, corner_depth: Tensor) -> Tensor:
    """(P, 3) barycentrics on the triangle itself from those on the screen."""
    weights = fragments.barycentric.view(-1, 3)[pixels] / corner_depth
    return weights / weights.sum(1, keepdim=True)


# The gradient of 10 · TV is this times the grid's Laplacian: TV = 2 · (mean of squared steps down + across), over
# 3 · 255 · 256 steps each. Everything is divided by it; Adam undoes that when its epsilon is divided too.
_SMOOTHNESS_GAIN = SMOOTHNESS_WEIGHT * 2 * 2 / (3 * (UV_PX - 1) * UV_PX)


def _maps(rendering: Rendering) -> tuple[SparseMap, SparseMap]:
    """The map A from texels to pixels; and its transpose, times PHOTO_WEIGHT / pixels / _SMOOTHNESS_GAIN."""
    count = len(rendering.pixels)
    device = rendering.pixels.device
    texels, weights = rendering.texels.flatten(), rendering.weights.flatten()
    offsets = torch.arange(0, 4 * count, 4, dtype=torch.int32, device=device)
    order = texels.argsort(stable=True)
    texel_counts = torch.bincount(texels, minlength=UV_PX * UV_PX)
    starts = (texel_counts.cumsum(0) - texel_counts).int()
    gain = PHOTO_WEIGHT / max(count, 1) / _SMOOTHNESS_GAIN
    back = SparseMap(torch.div(order, 4, rounding_mode="floor").int(), starts, weights[order] * gain)
    return SparseMap(texels.int(), offsets, weights), back


def _neighbour_counts(offset: Tensor) -> Tensor:
    """(256, 768): the number of neighbours of each texel, 4 or fewer at the border, once for each of 3 colours."""
    counts = torch.full((UV_PX, UV_PX * 3), 4.0, device=offset.device)
    counts[[0, -1]] -= 1
    counts[:, :3] -= 1
    counts[:, -3:] -= 1
    return counts


def _add_smoothness(gradient: Tensor, offset: Tensor, neighbours: Tensor) -> None:
    """Adds the Laplacian of offset (65536, 3), each texel less its neighbours, to gradient in place."""
    total, grid = gradient.view(UV_PX, UV_PX * 3), offset.view(UV_PX, UV_PX * 3)
    total.addcmul_(grid, neighbours)
    total[1:] -= grid[:-1]
    total[:-1] -= grid[1:]
    total[:, 3:] -= grid[:, :-3]
    total[:, :-3] -= grid[:, 3:]


def _adam_step(values: Tensor, gradient: Tensor, first: Tensor, second: Tensor, step_count: Tensor) -> None:
    """One Adam step in place (Kingma and Ba 2015), in one kernel; gradient is divided by _SMOOTHNESS_GAIN."""
    step_count += 1
    torch._fused_adam_(
        [values],
        [gradient],
        [first],
        [second],
        [],
        [step_count],
        lr=LEARNING_RATE,
        beta1=BETAS[0],
        beta2=BETAS[1],
        weight_decay=0.0,
        eps=ADAM_EPSILON / _SMOOTHNESS_GAIN,
        amsgrad=False,
        maximize=False,
    )
