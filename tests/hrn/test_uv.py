"""Unwrapping by the published rule, its oddities included, against plain loops."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from hrn_opt.hrn.frames import UV_PX
from hrn_opt.hrn.uv import OfficialUVRaster, unwrap, vertex_sampler

FOCAL, CENTRE, CROP = 1015, 112, 224


def seen_at(column: torch.Tensor, row: torch.Tensor, size_hw: tuple[int, int]) -> torch.Tensor:
    """(1, 3, 256, 256) float32 camera-frame positions that fall on these image coordinates (256, 256)."""
    height, width = size_hw
    z = torch.linspace(8, 12, UV_PX, dtype=torch.float64).expand(UV_PX, UV_PX)
    x = (column.double() * CROP / width - CENTRE) / FOCAL * z
    y = ((height - 1 - row.double()) * CROP / height - CENTRE) / FOCAL * z
    return torch.stack([x, y, z])[None].float()


def everywhere(value: float) -> torch.Tensor:
    return torch.full((UV_PX, UV_PX), value)


def ramps(size_hw: tuple[int, int]) -> torch.Tensor:
    """(1, 2, H, W): each pixel's row, and its column."""
    rows, columns = torch.meshgrid(*(torch.arange(float(size)) for size in size_hw), indexing="ij")
    return torch.stack([rows, columns])[None]


@pytest.mark.parametrize(("row", "value"), [(10.25, 10.75), (10.75, 10.25), (9.95, 9.05), (10.05, 10.95)])
def test_row_weights_are_swapped(row, value):
    """PARITY: a row ramp reads 10.75 at 10.25, and jumps from 9 to 11 at 10; columns are read rightly."""
    image = ramps((40, 56))
    texture = unwrap(seen_at(everywhere(20.3), everywhere(row), (40, 56)), image)
    assert_close(texture[0, 0], everywhere(value), atol=1e-4, rtol=0)  # float32 projection at 112 px
    assert_close(texture[0, 1], everywhere(20.3), atol=1e-4, rtol=0)


def test_equals_a_plain_loop_inside_and_outside_the_picture():
    size_hw = height, width = 40, 56
    random = torch.Generator().manual_seed(0)
    image = torch.rand(2, 3, *size_hw, generator=random)

    def coordinates(limit):  # off whole pixels, where the rule jumps
        whole = torch.randint(-6, limit + 6, (UV_PX, UV_PX), generator=random)
        return whole + 0.05 + 0.9 * torch.rand(UV_PX, UV_PX, generator=random)

    places = [(coordinates(width), coordinates(height)) for _ in range(2)]
    texture = unwrap(torch.cat([seen_at(*place, size_hw) for place in places]), image)
    texture, pixels = texture.numpy(), image.double().numpy()
    for face, (columns, rows) in enumerate(places):
        for y, x in np.random.default_rng(1).integers(0, UV_PX, (500, 2)):
            column, row = columns[y, x].item(), rows[y, x].item()
            left, top = int(np.floor(column)), int(np.floor(row))
            expected = np.zeros(3)
            for near_row, row_share in ((top, row - top), (top + 1, 1 - (row - top))):  # swapped, as published
                for near_column, column_share in ((left, 1 - (column - left)), (left + 1, column - left)):
                    held = min(max(near_row, 0), height - 1), min(max(near_column, 0), width - 1)
                    expected += pixels[face, :, held[0], held[1]] * row_share * column_share
            np.testing.assert_allclose(texture[face, :, y, x], expected, atol=2e-4)  # positions within 1e-4 px


def test_texels_without_a_triangle_take_the_last_row_s_first_pixel():
    """PARITY: 0 / 0 becomes 0, and row 0 counts from the bottom."""
    image = torch.rand(2, 3, 40, 56, generator=torch.Generator().manual_seed(2))
    texture = unwrap(torch.zeros(2, 3, UV_PX, UV_PX), image)
    assert torch.equal(texture, image[:, :, 39, 0, None, None].expand_as(texture))


def test_far_outside_is_the_border_pixel():
    image = torch.rand(1, 1, 24, 32, generator=torch.Generator().manual_seed(3))
    corners = {(-50.4, -80.3): (0, 0), (90.4, -80.3): (0, 31), (-50.4, 99.3): (23, 0), (90.4, 99.3): (23, 31)}
    for (column, row), pixel in corners.items():
        texture = unwrap(seen_at(everywhere(column), everywhere(row), (24, 32)), image)
        assert_close(texture, image[0, 0][pixel].expand_as(texture), atol=1e-6, rtol=0)


def test_interpolation_on_the_layout_keeps_odd_weights():
    """Weights that do not sum to 1 are used as they are; uncovered texels are 0."""
    grid = OfficialUVRaster(
        corners=torch.tensor([[0, 1, 2], [3, 1, 0]]),
        weights=torch.tensor([[0.2, 0.3, 0.4], [0.1, 0.8, 0.2]]),
        texels=torch.tensor([5, 3 * UV_PX + 7]),
    )
    vertices = torch.rand(2, 4, 5, generator=torch.Generator().manual_seed(4))
    expected = torch.zeros(2, 5, UV_PX, UV_PX)
    expected[:, :, 0, 5] = 0.2 * vertices[:, 0] + 0.3 * vertices[:, 1] + 0.4 * vertices[:, 2]
    expected[:, :, 3, 7] = 0.1 * vertices[:, 3] + 0.8 * vertices[:, 1] + 0.2 * vertices[:, 0]
    assert_close(grid.interpolate(vertices), expected)


def test_reading_a_map_at_the_vertices_equals_a_plain_loop():
    """PARITY: rows count from the bottom, one too far down, their weights swapped; u = 1 and v = 0, 1 are held in."""
    size = 8
    random = np.random.default_rng(5)
    uv = np.concatenate([random.random((60, 2)), [[0, 0], [1, 1], [0, 1], [1, 0], [0.5, 0.25], [0.999, 0.001]]])
    uv = uv.astype(np.float32)
    values = random.normal(size=(size, size, 3))
    flat = torch.tensor(values).float().view(-1, 3)
    found = vertex_sampler(torch.from_numpy(uv), size)(flat).numpy()
    for (u, v), value in zip(uv.astype(np.float64), found, strict=True):
        x, y = u * size, v * size
        left, down = int(x), int(y)
        expected = np.zeros(3)
        for row, row_share in ((size - 1 - down, y - down), (size - down, 1 - (y - down))):
            for column, column_share in ((left, 1 - (x - left)), (left + 1, x - left)):
                held = min(max(row, 0), size - 1), min(column, size - 1)
                expected += values[held] * row_share * column_share
        np.testing.assert_allclose(value, expected, atol=1e-5)


def test_reading_a_ramp_at_one_vertex():
    """u = 0.4 of 8 is column 3.2; v = 0.4 is 3.2 from the bottom: rows 4 and 5 with shares 0.2 and 0.8."""
    rows, columns = (ramp.reshape(-1) for ramp in ramps((8, 8))[0])
    read = vertex_sampler(torch.tensor([[0.4, 0.4]]), 8)(torch.stack([rows, columns], 1))
    assert_close(read, torch.tensor([[4.8, 3.2]]), atol=1e-5, rtol=0)
