"""The files a visitor takes home are there, and the zip is complete."""

import zipfile

import numpy as np
import torch

from hrn_opt.serving.downloads import write_downloads
from hrn_opt.types import Box, Camera, Face, Mesh, Reconstruction, UVTexture


def one_triangle():
    vertices = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 2, 0]])
    mesh = Mesh(vertices, torch.tensor([[0, 1, 2]]), torch.tensor([[0.0, 0, 1]] * 3), vertices[:, :2] / 2)
    texture = UVTexture(np.full((8, 8, 3), 90, np.uint8), np.full((8, 8), 255, np.uint8))
    face = Face(Box(0, 0, 9, 7), torch.zeros(3, 2), 1.0)
    return Reconstruction("test", "Tante Olga", 0, face, texture, Camera(torch.eye(4)), mesh)


def test_all_downloads_are_written(tmp_path):
    downloads = write_downloads(one_triangle(), tmp_path)
    assert downloads.texture.read_bytes()[:4] == b"\x89PNG"
    assert downloads.scene.read_bytes()[:4] == b"glTF"
    assert {path.parent for path in (downloads.texture, downloads.scene, downloads.obj_zip)} == {tmp_path}
    with zipfile.ZipFile(downloads.obj_zip) as archive:
        assert archive.testzip() is None
        assert sorted(name.rsplit(".")[-1] for name in archive.namelist()) == ["mtl", "obj", "png"]
