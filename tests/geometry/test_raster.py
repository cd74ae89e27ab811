"""The z-buffer against dense float64 loops, and the promises it makes at edges, ties and borders."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from hrn_opt.geometry import raster
from hrn_opt.geometry.raster import interpolate, rasterize

NEAR_EDGE_PX = 1e-4  # float32 planes cannot tell on which side of an edge a centre nearer than this lies
NEAR_DEPTH = 1e-4  # nor which of two surfaces nearer than this is in front


def brute_force(points, faces, size_hw):
    """Every triangle at every pixel, in float64.

    Returns barycentrics (F, H, W, 3), signed distance to the nearest edge in px (F, H, W; positive inside, NaN without
    area) and depth (F, H, W).
    """
    corners = points.numpy().astype(np.float64)[faces.numpy()]
    y, x = np.mgrid[0 : size_hw[0], 0 : size_hw[1]] + 0.5
    barycentric, inner_px, depth = [], [], []
    for (ax, ay, az), (bx, by, bz), (cx, cy, cz) in corners:
        area = (bx - ax) * (cy - ay) - (cx - ax) * (by - ay)
        areas = [
            (cx - bx) * (y - by) - (cy - by) * (x - bx),
            (ax - cx) * (y - cy) - (ay - cy) * (x - cx),
            (bx - ax) * (y - ay) - (by - ay) * (x - ax),
        ]
        lengths = [np.hypot(cx - bx, cy - by), np.hypot(ax - cx, ay - cy), np.hypot(bx - ax, by - ay)]
        if area == 0:
            weights, inner = np.zeros((*size_hw, 3)), np.full(size_hw, np.nan)
        else:
            weights = np.stack(areas, -1) / area
            inner = (weights * (abs(area) / np.array(lengths))).min(-1)
        barycentric.append(weights)
        inner_px.append(inner)
        depth.append(weights @ np.array([az, bz, cz]))
    return np.stack(barycentric), np.stack(inner_px), np.stack(depth)


def soup(seed, count=60, size_hw=(37, 53)):
    """Triangles of either winding, partly outside, some behind the viewer; heights over 0.5 px so that float32 can."""
    generator = torch.Generator().manual_seed(seed)
    height, width = size_hw
    spread = torch.tensor([width * 1.6, height * 1.6, 4.0])
    shift = torch.tensor([-0.3 * width, -0.3 * height, -2.0])
    corners = torch.rand((4 * count, 3, 3), generator=generator) * spread + shift
    edges = corners.roll(-1, 1) - corners
    area = (edges[:, 0, 0] * edges[:, 1, 1] - edges[:, 0, 1] * edges[:, 1, 0]).abs()
    corners = corners[area / edges[..., :2].norm(dim=-1).amax(1) > 0.5][:count]
    assert len(corners) == count
    return corners.reshape(-1, 3), torch.arange(3 * count).view(-1, 3)


def grid(size_hw, cells_hw, jitter=None):
    """A triangulated sheet over the whole picture and beyond it."""
    height, width = size_hw
    y, x = torch.meshgrid(
        torch.linspace(-1.5, height + 1.5, cells_hw[0] + 1),
        torch.linspace(-1.5, width + 1.5, cells_hw[1] + 1),
        indexing="ij",
    )
    points = torch.stack([x, y, torch.zeros_like(x)], -1)
    if jitter is not None:
        points[1:-1, 1:-1, :2] = jitter(points[1:-1, 1:-1, :2])
    number = torch.arange(x.numel()).view(x.shape)
    a, b, c, d = (part.flatten() for part in (number[:-1, :-1], number[:-1, 1:], number[1:, :-1], number[1:, 1:]))
    return points.view(-1, 3), torch.cat([torch.stack([a, b, d], 1), torch.stack([a, d, c], 1)])


@pytest.mark.parametrize("seed", range(6))
def test_soup_matches_brute_force(seed):
    size_hw = (37, 53)
    points, faces = soup(seed, size_hw=size_hw)
    degenerate = torch.tensor([[0, 0, 1], [4, 4, 4], [5, 7, 7]])
    faces = torch.cat([degenerate, faces])
    seen = rasterize(points, faces, size_hw)
    barycentric, inner_px, depth = brute_force(points, faces, size_hw)
    inside_depth = np.where(inner_px >= 0, depth, np.inf)
    winner = inside_depth.argmin(0)  # the first of equals
    winner[np.isinf(inside_depth.min(0))] = -1
    first, second = np.sort(inside_depth, 0)[:2]
    unclear = (np.abs(inner_px) < NEAR_EDGE_PX).any(0) | (second < first + NEAR_DEPTH)
    assert unclear.sum() <= 10  # of 1,961: the comparison below means something
    clear = ~unclear
    np.testing.assert_array_equal(seen.triangle.numpy()[clear], winner[clear])
    covered = clear & (winner >= 0)
    assert covered.sum() > 1000
    rows, columns = covered.nonzero()
    # Float32 planes over 53 px, gradients up to 2 / px: 53 · 2 · 6e-8 a term, three terms; depth adds its range of 4.
    exact = barycentric[winner[rows, columns], rows, columns]
    np.testing.assert_allclose(seen.barycentric.numpy()[rows, columns], exact, atol=3e-5, rtol=0)
    np.testing.assert_allclose(seen.depth.numpy()[rows, columns], inside_depth.min(0)[rows, columns], atol=1e-4, rtol=0)
    assert (seen.depth.numpy()[rows, columns] < 0).any()
    empty = seen.triangle < 0
    assert torch.isinf(seen.depth[empty]).all() and (seen.barycentric[empty] == 0).all()
    assert torch.equal(seen.covered, ~empty)


@pytest.mark.parametrize("chunk", [1, 7, 500])
def test_chunks_change_nothing(monkeypatch, chunk):
    points, faces = soup(3, count=25)
    whole = rasterize(points, faces, (37, 53))
    monkeypatch.setattr(raster, "_CHUNK_CANDIDATES", chunk)
    parts = rasterize(points, faces, (37, 53))
    for name in ("triangle", "barycentric", "depth"):
        assert torch.equal(getattr(whole, name), getattr(parts, name)), name


def test_same_answer_every_time():
    points, faces = soup(5, count=200)
    first, second = rasterize(points, faces, (37, 53)), rasterize(points, faces, (37, 53))
    assert torch.equal(first.triangle, second.triangle) and torch.equal(first.barycentric, second.barycentric)


@pytest.mark.parametrize("seed", range(40))
def test_shared_edges_leave_no_crack_even_through_pixel_centres(seed):
    generator = torch.Generator().manual_seed(seed)

    def onto_centres(xy):  # whole steps keep every corner on a centre, so edges run exactly through others
        return xy.floor() + 0.5 + torch.randint(-2, 3, xy.shape, generator=generator)

    points, faces = grid((23, 31), (4, 5), onto_centres)
    assert rasterize(points, faces, (23, 31)).covered.all()


def test_fine_jittered_sheet_has_no_crack():
    generator = torch.Generator().manual_seed(0)
    points, faces = grid((120, 160), (40, 52), lambda xy: xy + torch.rand(xy.shape, generator=generator) - 0.5)
    assert rasterize(points, faces, (120, 160)).covered.all()


def test_centre_on_the_edge_is_inside_and_just_past_it_is_not():
    points = torch.tensor([[0.5, 0.5, 0.0], [4.5, 0.5, 0.0], [0.5, 3.5, 0.0]])
    covered = rasterize(points, torch.tensor([[0, 1, 2]]), (4, 6)).covered
    expected = [[1, 1, 1, 1, 1, 0], [1, 1, 1, 0, 0, 0], [1, 1, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0]]
    assert_close(covered.int(), torch.tensor(expected, dtype=torch.int32))
    moved = rasterize(points + torch.tensor([0.01, 0.01, 0]), torch.tensor([[0, 1, 2]]), (4, 6)).covered
    assert not moved[0].any() and not moved[:, 0].any()


def test_winding_does_not_matter():
    points, faces = soup(1)
    forward, backward = rasterize(points, faces, (37, 53)), rasterize(points, faces.flip(1), (37, 53))
    differing = forward.triangle != backward.triangle
    assert differing.sum() <= 2  # pixels on an edge, to rounding
    assert_close(forward.barycentric[~differing], backward.barycentric.flip(-1)[~differing], atol=3e-5, rtol=0)


def test_equal_depth_goes_to_the_lowest_number():
    points = torch.tensor(
        [[-9.0, -9, 1.5], [40, -9, 1.5], [-9, 40, 1.5], [39.0, -8, 1.5], [-7, -9, 1.5], [-9, 37, 1.5]]
    )
    for faces in ([[0, 1, 2], [3, 4, 5]], [[3, 4, 5], [0, 1, 2]]):
        assert (rasterize(points, torch.tensor(faces), (7, 9)).triangle == 0).all()


def test_nearer_wins_also_at_negative_depth():
    square = torch.tensor([[-9.0, -9], [40, -9], [-9, 40]])
    depths = torch.tensor([2.0, -0.5, -3.0, 0.0, 5.0])
    points = torch.cat([torch.cat([square, depth.expand(3, 1)], 1) for depth in depths])
    seen = rasterize(points, torch.arange(15).view(5, 3), (5, 8))
    assert (seen.triangle == 2).all()
    assert_close(seen.depth, torch.full((5, 8), -3.0))


def test_one_pixel_and_nothing():
    big = torch.tensor([[-9.0, -9, 2], [40, -9, 2], [-9, 40, 2]])
    assert rasterize(big, torch.tensor([[0, 1, 2]]), (1, 1)).triangle.tolist() == [[0]]
    for points, faces in (
        (big, torch.empty((0, 3), dtype=torch.int64)),  # no triangles
        (big + 100, torch.tensor([[0, 1, 2]])),  # wholly outside, every way
        (big - 100, torch.tensor([[0, 1, 2]])),
        (big * torch.nan, torch.tensor([[0, 1, 2]])),
    ):
        seen = rasterize(points, faces, (4, 7))
        assert seen.triangle.shape == (4, 7) and not seen.covered.any()


def test_interpolation_gives_back_a_linear_function():
    points, faces = grid((20, 33), (3, 4))
    seen = rasterize(points, faces, (20, 33))
    position = interpolate(seen, points[:, :2], faces)  # (20, 33, 2)
    y, x = torch.meshgrid(torch.arange(20) + 0.5, torch.arange(33) + 0.5, indexing="ij")
    assert_close(position, torch.stack([x, y], -1), atol=2e-5, rtol=0)  # 33 px in float32, a few roundings


def test_interpolation_is_zero_where_nothing_is_seen():
    points = torch.tensor([[0.0, 0, 0], [3, 0, 0], [0, 3, 0]])
    faces = torch.tensor([[0, 1, 2]])
    seen = rasterize(points, faces, (5, 8))
    values = interpolate(seen, torch.ones(3, 2), faces)
    assert_close(values[..., 0], seen.covered.float())
