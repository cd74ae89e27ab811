"""Mask, mid and high frequencies against plain float64 arithmetic."""

import numpy as np
import pytest
import torch
from numpy.lib.stride_tricks import sliding_window_view
from torch import nn
from torch.testing import assert_close

from hrn_opt.hrn.shape.detail import detail_normals, high_displacement, mid_deformation, smooth_mask


def random_of(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


class Recorder(nn.Module):
    """Answers with a fixed picture, and keeps what it was asked."""

    def __init__(self, answer: torch.Tensor):
        super().__init__()
        self.answer = answer
        self.asked = None

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        self.asked = pictures
        return self.answer


def eroded_and_blurred(mask: np.ndarray) -> np.ndarray:
    """(H, W): least of 3 × 3, beyond the border nothing; mean of 11 × 11, mirrored without the border's line."""
    outside = np.pad(mask.astype(np.float64), 1, constant_values=np.inf)
    eroded = sliding_window_view(outside, (3, 3)).min((2, 3))
    return sliding_window_view(np.pad(eroded, 5, mode="reflect"), (11, 11)).mean((2, 3))


def test_smooth_mask_equals_plain_float64():
    mask = random_of(2, 1, 40, 56)
    mask[0] = (mask[0] > 0.03).float()
    found = smooth_mask(mask)
    expected = np.stack([eroded_and_blurred(one) for one in mask[:, 0].numpy()])[:, None]
    assert found.dtype == torch.float32
    assert_close(found, torch.from_numpy(expected).float(), atol=1e-7, rtol=0)  # float64 sums, rounded once


def test_smooth_mask_at_the_border():
    """A full mask stays full; a hole in the corner grows to 2 × 2 and counts again in the mirror."""
    assert torch.equal(smooth_mask(torch.ones(1, 1, 20, 24)), torch.ones(1, 1, 20, 24))
    hole = torch.ones(1, 1, 20, 24)
    hole[..., 0, 0] = 0
    found = smooth_mask(hole)[0, 0]
    # Along an edge of 11 round texel 0, line 0 counts once and line 1 twice: 3 × 3 of 121.
    assert found[0, 0].item() == pytest.approx(1 - 9 / 121, abs=1e-6)
    assert found[6, 0].item() == pytest.approx(1 - 3 / 121, abs=1e-6)
    assert (found[7:] == 1).all() and (found[:, 7:] == 1).all()


def test_mid_takes_position_and_texture_at_64_texels():
    position, texture, mask = random_of(2, 3, 256, 256), random_of(2, 3, 256, 256, seed=1), random_of(2, 1, 256, 256)
    network = Recorder(random_of(2, 3, 64, 64, seed=2))
    found = mid_deformation(network, torch.tensor([0.3]), position, texture, mask)

    def quartered(maps):  # a centre of 64² lies between the middle two of four texels
        return maps.unflatten(3, (64, 4))[..., 1:3].mean(-1).unflatten(2, (64, 4))[:, :, :, 1:3].mean(3)

    assert_close(network.asked[:, :3], quartered(position), atol=1e-6, rtol=0)
    assert_close(network.asked[:, 3:], quartered(texture * 2 - 1), atol=1e-6, rtol=0)
    assert_close(found, network.answer * 0.1 * 0.3 * quartered(mask), atol=1e-7, rtol=0)


def test_high_takes_position_texture_and_deformation():
    position, texture, mask = random_of(2, 3, 256, 256), random_of(2, 3, 256, 256, seed=1), random_of(2, 1, 256, 256)
    deformation = torch.arange(64.0)[:, None].expand(2, 3, 64, 64) + torch.arange(2.0)[:, None, None, None]
    network = Recorder(random_of(2, 1, 256, 256, seed=2))
    found = high_displacement(network, torch.tensor([0.02]), position, texture, deformation, mask)
    assert torch.equal(network.asked[:, :3], position)
    assert_close(network.asked[:, 3:6], texture * 2 - 1)
    rows = ((torch.arange(256.0) + 0.5) / 4 - 0.5).clamp(0, 63)  # a ramp stays one when enlarged
    enlarged = rows[:, None].expand(2, 3, 256, 256) + torch.arange(2.0)[:, None, None, None]
    assert_close(network.asked[:, 6:], enlarged, atol=1e-5, rtol=0)
    assert_close(found, network.answer * 0.1 * 0.02 * mask, atol=1e-8, rtol=0)


def surface(batch: int, height: int, width: int, seed: int = 0) -> torch.Tensor:
    """(B, 3, H, W) positions of a bumpy sheet: x to the right, y up, z towards the viewer."""
    y, x = torch.meshgrid(torch.linspace(1, -1, height), torch.linspace(-1, 1, width), indexing="ij")
    flat = torch.stack([x, y, torch.zeros_like(x)]).expand(batch, 3, height, width)
    return flat + 0.05 * torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(seed))


def normals_by_triangle(position: np.ndarray) -> np.ndarray:
    """(3, H, W): the published triangles of the grid one after another, unnormalised, x and y turned round."""
    height, width = position.shape[1:]
    total = np.zeros_like(position)
    for x in range(2, width - 3):
        for y in range(5, height - 6):
            upper = (y, x), (y + 1, x), (y, x + 1)
            lower = (y, x + 1), (y + 1, x), (y + 1, x + 1)
            for corners in (upper, lower):
                a, b, c = (position[:, row, column] for row, column in corners)
                for row, column in corners:
                    total[:, row, column] += np.cross(b - a, c - a)
    length = np.maximum(np.linalg.norm(total, axis=0), 1e-6)
    return total / length * np.array([-1, -1, 1])[:, None, None]


def test_normals_of_the_displaced_grid_equal_a_loop_over_its_triangles():
    position, normals = surface(2, 19, 16), surface(2, 19, 16, seed=1)
    displacement = 0.1 * random_of(2, 1, 19, 16, seed=2)
    found = detail_normals(position, normals, displacement)
    for face in range(2):
        coarse, direction = position[face].double().numpy(), normals[face].double().numpy()
        raised = coarse + displacement[face].double().numpy() * direction
        expected = direction + normals_by_triangle(raised) - normals_by_triangle(coarse)
        np.testing.assert_allclose(found[face].numpy(), expected, atol=2e-5)  # crosses of 0.1 long float32 edges


def test_grid_keeps_its_margin():
    """Columns 2 to w − 3 and rows 5 to h − 6 change with the displacement, no others."""
    height, width = 19, 16
    position, normals = surface(1, height, width), torch.zeros(1, 3, height, width)
    normals[:, 2] = 1
    change = detail_normals(position, normals, 0.5 * random_of(1, 1, height, width)) - normals
    inside = torch.zeros(height, width, dtype=torch.bool)
    inside[5 : height - 5, 2 : width - 2] = True
    assert (change[0].abs().sum(0)[~inside] == 0).all()
    assert (change[0].abs().sum(0)[inside] > 1e-3).all()


def test_without_displacement_the_coarse_normals_stay():
    position, normals = surface(2, 19, 16), surface(2, 19, 16, seed=3)
    assert_close(detail_normals(position, normals, torch.zeros(2, 1, 19, 16)), normals, atol=3e-7, rtol=0)


def test_slopes_are_turned_round():
    """PARITY: a displacement that rises to the right leans x to the right, not away from it as a true normal would."""
    y, x = torch.meshgrid(torch.linspace(1, -1, 19), torch.linspace(-1, 1, 16), indexing="ij")
    flat, forward = torch.stack([x, y, torch.zeros_like(x)])[None], torch.zeros(1, 3, 19, 16)
    forward[:, 2] = 1
    leaning = detail_normals(flat, forward, 0.5 * x[None, None] + 0.25 * y[None, None])[0, :, 9, 8]
    length = (1 + 0.5**2 + 0.25**2) ** 0.5
    assert_close(leaning, torch.tensor([0.5, 0.25, 1.0]) / length, atol=1e-5, rtol=0)
