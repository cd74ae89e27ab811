"""Pictures of a textured mesh whose look is known."""

import math

import numpy as np
import torch
from torch.testing import assert_close

from hrn_opt.output.render import BACKGROUND_RGB, FILL, image_of, portrait, render
from hrn_opt.types import Camera, Mesh, UVTexture


def card(depth=0.0, width=2.0, height=3.0):
    """A flat card facing +z, centred on the origin, its UV filling the square."""
    x, y = width / 2, height / 2
    vertices = torch.tensor([[-x, -y, depth], [x, -y, depth], [x, y, depth], [-x, y, depth]])
    normals = torch.tensor([[0.0, 0.0, 1.0]]).expand(4, 3)
    uv = torch.tensor([[0.0, 0.0], [1, 0], [1, 1], [0, 1]])
    return Mesh(vertices, torch.tensor([[0, 1, 2], [0, 2, 3]]), normals, uv)


def quarters(size=64):
    """Top left red, top right green, bottom left blue, bottom right white."""
    rgb = np.zeros((size, size, 3), np.uint8)
    half = size // 2
    rgb[:half, :half], rgb[:half, half:], rgb[half:, :half], rgb[half:, half:] = (
        (255, 0, 0),
        (0, 255, 0),
        (0, 0, 255),
        255,
    )
    return UVTexture(rgb, np.full((size, size), 255, np.uint8))


def camera(scale=10.0, centre_xy=(30.0, 20.0)):
    matrix = torch.diag(torch.tensor([scale, -scale, -scale, 1.0]))
    matrix[:2, 3] = torch.tensor(centre_xy)
    return Camera(matrix)


def test_render_lays_each_quarter_where_it_belongs():
    colour, covered = render(card(), quarters(), camera(), (40, 60))
    assert colour.shape == (40, 60, 3) and covered.shape == (40, 60)
    expected = torch.zeros(40, 60, dtype=torch.bool)
    expected[5:35, 20:40] = True
    assert torch.equal(covered, expected)
    for (row, column), rgb in {
        (10, 24): (255, 0, 0),
        (10, 35): (0, 255, 0),
        (30, 24): (0, 0, 255),
        (30, 35): (255, 255, 255),
    }.items():
        assert_close(colour[row, column], torch.tensor(rgb, dtype=torch.float32))


def test_one_texel_a_pixel_gives_the_texture_back():
    rgb = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    texture = UVTexture(rgb, np.full((16, 16), 255, np.uint8))
    colour, covered = render(card(width=1.6, height=1.6), texture, camera(10, (8 + 7, 8 + 3)), (22, 31))
    assert torch.equal(covered.nonzero().amin(0), torch.tensor([3, 7])) and covered.sum() == 256
    assert_close(colour[3:19, 7:23], torch.from_numpy(rgb).float(), atol=0.01, rtol=0)  # texel weights to 1e-5


def test_the_nearer_card_hides_the_other():
    far, near = card(depth=-1.0), card(depth=1.0, width=1.0, height=1.0)
    both = Mesh(
        torch.cat([near.vertices, far.vertices]),
        torch.cat([near.faces, far.faces + 4]),
        torch.cat([near.normals, far.normals]),
        torch.cat([torch.full((4, 2), 0.75), torch.tensor([[0.25, 0.75]]).expand(4, 2)]),  # green before red
    )
    colour, _ = render(both, quarters(), camera(), (40, 60))
    assert colour[20, 30].tolist() == [0, 255, 0] and colour[8, 22].tolist() == [255, 0, 0]


def test_portrait_frames_the_face_and_shows_the_background():
    picture = portrait(card(), image_of(quarters()), 0.0, (80, 100))
    assert picture.shape == (80, 100, 3) and picture.dtype == np.uint8
    assert (picture[0, 0] == BACKGROUND_RGB).all() and (picture[-1, -1] == BACKGROUND_RGB).all()
    rows = (picture != BACKGROUND_RGB).any(2).any(1).nonzero()[0]
    assert abs(len(rows) - FILL * 80) <= 2 and abs(rows.mean() - 39.5) <= 0.5
    assert picture[30, 45].tolist() == [255, 0, 0] and picture[30, 55].tolist() == [0, 255, 0]
    assert picture[50, 45].tolist() == [0, 0, 255]


def test_positive_yaw_turns_towards_the_pictures_right():
    flat = card(width=2.0, height=2.0)
    nose = Mesh(
        torch.cat([flat.vertices, torch.tensor([[-0.1, -0.1, 1.0], [0.1, -0.1, 1.0], [0.0, 0.1, 1.0]])]),
        torch.cat([flat.faces, torch.tensor([[4, 5, 6]])]),
        torch.cat([flat.normals, flat.normals[:3]]),
        torch.cat([torch.full((4, 2), 0.25), torch.full((3, 2), 0.75)]),  # blue card, green nose
    )

    def nose_column(yaw_deg):
        picture = portrait(nose, image_of(quarters()), math.radians(yaw_deg), (90, 110))
        return (picture == (0, 255, 0)).all(2).nonzero()[1].mean()

    assert nose_column(25) > nose_column(0) + 5 and nose_column(-25) < nose_column(0) - 5


def test_portrait_softens_edges():
    picture = portrait(card(width=2.0, height=2.0), image_of(quarters()), 0.3, (61, 75)).reshape(-1, 3)
    pure = [BACKGROUND_RGB, (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)]
    mixed = ~np.any([(picture == colour).all(1) for colour in pure], 0)
    assert 30 < mixed.sum() < 600  # along the outline and the quarters' borders only
