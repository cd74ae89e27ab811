"""The UV rasteriser against a plain loop in PyTorch3D's order, against its rules one by one, and the golden case."""

from pathlib import Path

import numpy as np
import pytest

from hrn_opt.hrn.exact.pytorch3d_uv import AREA_EPSILON, screen_points, texel_centres, uv_fragments

GOLDEN = Path(__file__).resolve().parents[2] / "data" / "golden" / "seed11-case1.npz"
f32 = np.float32


def rasterize_reference(uv, faces, size):
    """Every triangle at every texel, one float32 operation after the other."""
    points = screen_points(uv)
    triangle_map = np.full((size, size), -1, np.int32)
    barycentric = np.zeros((size, size, 3), f32)
    for row in range(size):
        for column in range(size):
            point = tuple(f32(-1) + (f32(2) * f32(size - 1 - k) + f32(1)) / f32(size) for k in (column, row))
            hits = [hit for number, face in enumerate(faces) if (hit := reference_hit(point, points[face], number))]
            if hits:
                _, triangle_map[row, column], barycentric[row, column] = min(hits, key=lambda hit: hit[:2])
    return triangle_map, barycentric


def reference_hit(point, corners, number):
    """(depth, number, barycentrics) of a texel's centre strictly inside one triangle (3, 2), else None."""
    a, b, c = corners
    edge = lambda p, start, end: (p[0] - start[0]) * (end[1] - start[1]) - (p[1] - start[1]) * (end[0] - start[0])  # noqa: E731
    area = edge(c, a, b)
    if abs(float(area)) <= AREA_EPSILON:
        return None
    if any(point[k] < corners[:, k].min() or point[k] > corners[:, k].max() for k in range(2)):
        return None
    divisor = f32(float(area) + AREA_EPSILON)
    weights = np.array([edge(point, b, c) / divisor, edge(point, c, a) / divisor, edge(point, a, b) / divisor], f32)
    return ((weights[0] + weights[1]) + weights[2], number, weights) if (weights > 0).all() else None


def assert_equal_to_reference(uv, faces, size):
    layout = uv_fragments(uv, faces, size)
    triangle_map, barycentric = rasterize_reference(uv, faces, size)
    assert np.array_equal(layout.triangle, triangle_map)
    assert np.array_equal(layout.barycentric, barycentric)  # bit for bit
    return layout


@pytest.mark.parametrize(("dtype", "size"), [(np.float32, 16), (np.float64, 16), (np.float64, 21)])
@pytest.mark.parametrize("seed", range(3))
def test_random_triangles_of_all_sizes_match_the_loop(dtype, size, seed):
    rng = np.random.default_rng(seed)
    centre = rng.uniform(-0.1, 1.1, (60, 1, 2))  # some reach outside, some lie outside as a whole
    spread = 10 ** rng.uniform(-4.5, 0, (60, 1, 1))
    uv = (centre + spread * rng.uniform(-1, 1, (60, 3, 2))).reshape(-1, 2).astype(dtype)
    faces = np.arange(180).reshape(60, 3)
    layout = assert_equal_to_reference(uv, faces, size)
    assert (layout.triangle >= 0).mean() > 0.2


def test_a_warped_grid_matches_the_loop():
    rng = np.random.default_rng(5)
    v, u = np.meshgrid(np.linspace(1, 0, 9), np.linspace(0, 1, 7), indexing="ij")
    uv = np.stack([u, v], -1).reshape(-1, 2) + rng.uniform(-0.03, 0.03, (63, 2))
    index = np.arange(63).reshape(9, 7)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:]
    faces = np.concatenate([np.stack(t, -1).reshape(-1, 3) for t in ((a, c, b), (b, c, d))])
    layout = assert_equal_to_reference(uv, faces, 18)
    assert (layout.triangle >= 0).mean() > 0.8


def test_chunks_do_not_show(monkeypatch):
    rng = np.random.default_rng(1)
    uv = rng.uniform(0, 1, (90, 2))
    faces = np.arange(90).reshape(30, 3)
    whole = uv_fragments(uv, faces, 32)
    monkeypatch.setattr("hrn_opt.hrn.exact.pytorch3d_uv._CHUNK_CANDIDATES", 50)
    cut = uv_fragments(uv, faces, 32)
    assert np.array_equal(whole.triangle, cut.triangle) and np.array_equal(whole.barycentric, cut.barycentric)


def test_row_0_is_v_1_and_column_0_is_u_0():
    uv = np.array([[0.01, 0.99], [0.01, 0.7], [0.3, 0.99]])
    triangle = uv_fragments(uv, np.array([[0, 1, 2]]), 16).triangle
    assert triangle[0, 0] == 0 and triangle[0, -1] == triangle[-1, 0] == triangle[-1, -1] == -1
    assert np.array_equal(texel_centres(4), f32([0.75, 0.25, -0.25, -0.75]))


def test_centres_on_an_edge_belong_to_no_triangle():
    # Two triangles share the diagonal through the centres of texels (k, k).
    uv = np.array([[0, 1], [0, 0], [1, 0], [1, 1]], np.float64)
    layout = uv_fragments(uv, np.array([[0, 1, 2], [0, 2, 3]]), 8)
    assert np.array_equal(layout.triangle < 0, np.eye(8, dtype=bool))


def tiny_triangle(edge, *, flip=False):
    """UVs of a right triangle round the centre of texel (3, 4) of 8 × 8; its legs are `edge` long on screen."""
    centre = np.array([4.5, 8 - 3.5]) / 8
    corners = centre + edge / 2 * np.array([[-0.3, -0.3], [0.7, -0.3], [-0.3, 0.7]])
    return corners[::-1] if flip else corners


def test_the_area_divides_with_1e_8_added():
    uv = tiny_triangle(2e-4)
    points = screen_points(uv)
    area = abs(np.linalg.det(np.stack([points[1] - points[0], points[2] - points[0]]).astype(np.float64)))
    assert area == pytest.approx(4e-8, rel=0.05)
    sums = [uv_fragments(tiny_triangle(2e-4, flip=flip), np.array([[0, 1, 2]]), 8) for flip in (False, True)]
    sums = sorted(float(layout.barycentric[3, 4].sum()) for layout in sums)
    assert sums == pytest.approx([area / (area + 1e-8), area / (area - 1e-8)], rel=2e-2)  # float32 corners


@pytest.mark.parametrize("flip", [False, True])
def test_triangles_of_almost_no_area_are_skipped(flip):
    face = np.array([[0, 1, 2]])
    seen = [uv_fragments(tiny_triangle(edge, flip=flip), face, 8).triangle.max() for edge in (0.9e-4, 1.2e-4)]
    assert seen == [-1, 0]


def test_the_lowest_depth_wins_then_the_lowest_number():
    large = np.array([[-1, -1], [3, -1], [-1, 3]], np.float64)
    tiny, flipped = tiny_triangle(2e-4), tiny_triangle(2e-4, flip=True)
    twice = uv_fragments(large, np.array([[0, 1, 2], [0, 1, 2]]), 8)
    assert (twice.triangle == 0).all()
    # The 1e-8 in the divisor makes a tiny triangle's barycentrics, and so its depth, smaller than a large one's, or
    # larger, as it is wound.
    winners = set()
    for small in (tiny, flipped):
        both = uv_fragments(np.concatenate([large, small]), np.array([[0, 1, 2], [3, 4, 5]]), 8)
        winners.add(int(both.triangle[3, 4]))
        assert (np.delete(both.triangle.ravel(), 3 * 8 + 4) == 0).all()
    assert winners == {0, 1}


def test_the_files_own_dtype_decides_the_last_bit():
    uv = np.random.default_rng(2).uniform(0, 1, (500, 2))
    exact = np.stack([-(uv[:, 0] * 2 - 1), uv[:, 1] * 2 - 1], 1).astype(np.float32)
    assert np.array_equal(screen_points(uv), exact)
    assert not np.array_equal(screen_points(uv.astype(np.float32)), exact)


def test_nothing_in_the_picture_is_an_empty_layout():
    for faces in (np.array([[0, 1, 2]]), np.zeros((0, 3), int)):
        layout = uv_fragments(np.array([[2, 2], [3, 2], [2, 3.0]]), faces, 8)
        assert (layout.triangle == -1).all() and not layout.barycentric.any()


def golden_model(seed):
    """Vertices (N, 3), faces, UVs and shape bases (3N, 144) of the golden pack, drawn as its own generator does."""
    generator = pytest.importorskip("tests.data.golden.make_pack", reason="it needs scipy", exc_type=ImportError)
    rng = np.random.default_rng(seed)
    vertices, faces, uv = generator.face_grid(rng)
    bases = []
    for count, scale in ((80, 0.012), (64, 0.008)):
        fields = np.stack([generator.smooth_fields(rng, uv, count) for _ in range(3)], -1)  # (count, N, 3)
        bases.append(fields.transpose(1, 2, 0).reshape(-1, count) * scale)
    return vertices, faces, uv, np.concatenate(bases, 1).astype(np.float32)


def test_the_golden_position_map():
    golden = np.load(GOLDEN)
    vertices, faces, uv, basis = golden_model(seed=11)
    mean = vertices.astype(np.float32)
    shape = mean - mean.mean(0, keepdims=True) + (basis @ golden["coeffs"][0, :144]).reshape(-1, 3)
    layout = uv_fragments(uv, faces, 256)
    covered = layout.triangle >= 0
    positions = (layout.barycentric[..., None] * shape[faces[layout.triangle]]).sum(2) * covered[..., None]
    expected = golden["position_map"].transpose(1, 2, 0)
    assert np.array_equal(covered, (expected != 0).any(-1))
    np.testing.assert_allclose(positions, expected, atol=1e-6)  # the order of 144 float32 additions
