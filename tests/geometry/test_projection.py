"""What of a surface the photo shows: not what lies behind another part of it, nor what lies outside the photo."""

import torch

from hrn_opt.geometry.projection import inside_photo, visible


def plane(left, right, depth):
    """Two triangles facing the viewer, 100 px high; y down."""
    points = torch.tensor([[left, 0.0, depth], [right, 0, depth], [right, 100, depth], [left, 100, depth]])
    return points, torch.tensor([[0, 2, 1], [0, 3, 2]])


def texels(x, depth):
    """(2, 1, 1) and (1, 1, 1) of one texel half way down."""
    return torch.tensor([[[x]], [[50.0]]]), torch.tensor([[[depth]]])


def test_what_lies_behind_another_part_is_hidden():
    near, faces = plane(0.0, 50.0, 10.0)
    far, _ = plane(0.0, 100.0, 30.0)
    points, faces = torch.cat([near, far]), torch.cat([faces, faces + 4])
    for x, depth, expected in ((25.0, 10.0, 1), (25.0, 30.0, 0), (75.0, 30.0, 1), (25.0, 12.0, 0), (25.0, 10.4, 1)):
        assert visible(points, faces, *texels(x, depth)).item() == expected, (x, depth)


def test_the_silhouette_is_not_trusted():
    points, faces = plane(0.0, 100.0, 10.0)
    points = torch.cat([points, torch.tensor([[0.0, 0.0, 20.0]])])  # gives the surface a depth
    assert visible(points, faces, *texels(0.5, 10.0)).item() < 0.5
    assert visible(points, faces, *texels(50.0, 10.0)).item() == 1


def test_inside_the_photo():
    xy = torch.tensor([[[-0.1, 0.0, 20.0, 20.1, 5.0]], [[5.0, 5.0, 10.0, 5.0, 10.1]]])
    assert inside_photo(xy, (10, 20)).tolist() == [[[0.0, 1.0, 1.0, 0.0, 0.0]]]
