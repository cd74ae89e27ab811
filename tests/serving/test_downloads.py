"""The files a visitor takes home are there, named after the photo, and the zips are complete."""

import zipfile
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from PIL import Image

from hrn_opt.serving.downloads import write_downloads
from hrn_opt.types import Box, Camera, DetailMaps, Face, Mesh, Photo, Reconstruction, UVTexture


def one_triangle():
    vertices = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 2, 0]])
    mesh = Mesh(vertices, torch.tensor([[0, 1, 2]]), torch.tensor([[0.0, 0, 1]] * 3), vertices[:, :2] / 2)
    texture = UVTexture(np.full((8, 8, 3), 90, np.uint8), np.full((8, 8), 255, np.uint8))
    face = Face(Box(0, 0, 9, 7), torch.zeros(3, 2), 1.0)
    return Reconstruction("test", "Tante/ Olga?", 0, face, texture, Camera(torch.eye(4)), mesh)


def whole():
    plain = one_triangle()
    detail = DetailMaps(np.full((6, 6, 3), 128, np.uint8), np.full((6, 6), 0.01, np.float32), plain.mesh)
    return replace(plain, detail=detail, turntable=tuple(np.full((4, 5, 3), level, np.uint8) for level in (0, 99, 255)))


def names_in(path):
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        return set(archive.namelist())


def test_every_file_of_a_detailed_face_is_written(tmp_path):
    downloads = write_downloads(whole(), tmp_path, Photo(np.full((10, 20, 3), 70, np.uint8)))
    paths = {field.name: getattr(downloads, field.name) for field in fields(downloads)}
    assert all(path.parent == tmp_path and path.name.startswith("Tante_Olga.") for path in paths.values()), paths
    assert {paths[name].read_bytes()[:4] for name in ("scene", "clay", "lit", "dense")} == {b"glTF"}
    pictures = {}
    for name in ("normal", "displacement", "overlay", "turntable"):
        with Image.open(paths[name]) as picture:
            pictures[name] = (picture.size, getattr(picture, "n_frames", 1))
    _, frames = pictures.pop("turntable")
    assert pictures == {"normal": ((6, 6), 1), "displacement": ((6, 6), 1), "overlay": ((20, 10), 1)}
    assert frames == 4  # forth and back
    assert names_in(paths["obj_zip"]) == {"Tante_Olga.obj", "Tante_Olga.mtl", "Tante_Olga.png"}
    single = {path.name for path in paths.values() if path.suffix != ".zip"}
    assert names_in(paths["everything"]) == single | {"Tante_Olga.obj", "Tante_Olga.mtl"}


@pytest.mark.parametrize("given", [{"mesh": None}, {}])
def test_what_was_not_made_is_none(tmp_path, given):
    downloads = write_downloads(replace(one_triangle(), **given), tmp_path)
    assert downloads.texture.read_bytes()[:4] == b"\x89PNG"
    assert (downloads.scene is None) == (downloads.obj_zip is None) == (downloads.clay is None) == ("mesh" in given)
    assert downloads.normal is downloads.turntable is downloads.overlay is None
    assert downloads.texture.name in names_in(downloads.everything)


def test_the_clay_carries_no_texture(tmp_path):
    downloads = write_downloads(one_triangle(), tmp_path)
    assert b"image/png" in downloads.scene.read_bytes() and b"image/png" not in downloads.clay.read_bytes()


def test_named_formats_are_all_that_is_written(tmp_path):
    downloads = write_downloads(whole(), tmp_path, Photo(np.full((10, 20, 3), 70, np.uint8)), ("glb",))
    assert [path.name for path in downloads] == ["Tante_Olga.glb"] == [path.name for path in tmp_path.iterdir()]
