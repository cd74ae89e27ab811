"""What is written is read back by other readers and compared; and a write that fails leaves nothing behind."""

import io
import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image

from hrn_opt.errors import OptionInvalid, OutputUnwritable
from hrn_opt.output import export
from hrn_opt.output.names import safe_stem
from hrn_opt.types import Box, Camera, Face, Mesh, Reconstruction, UVTexture

ALL_FILES = ("Zoë_1.png", "Zoë_1.glb", "Zoë_1.obj", "Zoë_1.mtl")
VALIDATOR = Path(__file__).parents[1] / "gltf"


def curved_mesh(columns=11, rows=14):
    """A bent sheet facing +z, in decimetres; uv follows x and y, so that a flip of v shows."""
    v, u = torch.meshgrid(torch.linspace(0, 1, rows), torch.linspace(0.1, 0.9, columns), indexing="ij")
    uv = torch.stack([u, v], -1).reshape(-1, 2)  # (N, 2)
    x, y = uv[:, 0] * 1.6 - 0.8, uv[:, 1] * 2.2 - 1.1
    vertices = torch.stack([x, y, 0.5 - 0.4 * x**2], -1)  # (N, 3)
    normals = torch.nn.functional.normalize(torch.stack([0.8 * x, torch.zeros_like(x), torch.ones_like(x)], -1))
    grid = torch.arange(rows * columns).reshape(rows, columns)
    low_left, low_right = grid[:-1, :-1].reshape(-1), grid[:-1, 1:].reshape(-1)
    up_left, up_right = grid[1:, :-1].reshape(-1), grid[1:, 1:].reshape(-1)
    faces = torch.cat([torch.stack(t, -1) for t in ((low_left, low_right, up_right), (low_left, up_right, up_left))])
    return Mesh(vertices, faces, normals, uv)


def texture(size=64):
    """Red falls with the row, green grows with the column: every texel says where it was."""
    row, column = np.mgrid[0:size, 0:size]
    rgb = np.stack([255 - row * 255 // (size - 1), column * 255 // (size - 1), np.full_like(row, 90)], -1)
    return UVTexture(rgb.astype(np.uint8), np.full((size, size), 255, np.uint8))


def reconstruction(mesh="curved", size=64, name="Zoë 1"):
    face = Face(Box(1, 2, 30, 40), torch.zeros(5, 2), 0.9)
    mesh = curved_mesh() if mesh == "curved" else mesh
    return Reconstruction("fake", name, 0, face, texture(size), Camera(torch.eye(4)), mesh)


def area_m2(mesh: Mesh):
    a, b, c = (mesh.vertices[mesh.faces[:, k]].double() for k in range(3))
    return float(torch.linalg.cross(b - a, c - a).norm(dim=1).sum() / 2) / 100  # dm² → m²


def files_below(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("file_format", ["glb", "obj"])
def test_meshes_read_back_as_they_were(tmp_path, file_format):
    original = reconstruction()
    export.write(original, tmp_path)
    read = trimesh.load(tmp_path / f"Zoë_1.{file_format}", force="mesh", process=False)
    mesh = original.mesh
    assert read.area == pytest.approx(area_m2(mesh), rel=1e-4)  # six decimals of a metre in the OBJ
    order = np.lexsort(np.round(read.vertices, 4).T), np.lexsort(np.round(mesh.vertices.numpy() / 10, 4).T)
    for got, want, atol in [
        (read.vertices, mesh.vertices.numpy() / 10, 1e-6),
        (read.visual.uv, mesh.uv.numpy(), 1e-6),
    ]:
        np.testing.assert_allclose(np.asarray(got)[order[0]], want[order[1]], atol=atol)
    assert (read.face_normals[:, 2] > 0.5).all()  # winding: every triangle faces +z
    material = read.visual.material
    image = material.baseColorTexture if file_format == "glb" else material.image
    assert np.array_equal(np.asarray(image.convert("RGB")), original.texture.rgb)


def test_glb_uv_point_at_the_texels_they_should():
    document, blob = parse_glb(export.glb_bytes(reconstruction()))
    accessor = document["accessors"][document["meshes"][0]["primitives"][0]["attributes"]["TEXCOORD_0"]]
    view = document["bufferViews"][accessor["bufferView"]]
    uv = np.frombuffer(blob, np.float32, accessor["count"] * 2, view["byteOffset"]).reshape(-1, 2)
    np.testing.assert_allclose(uv[:, 1], 1 - curved_mesh().uv[:, 1].numpy(), atol=1e-6)  # glTF: v = 0 is the top row
    np.testing.assert_array_equal(uv[:, 0], curved_mesh().uv[:, 0].numpy())


def parse_glb(content):
    length = int.from_bytes(content[12:16], "little")
    return json.loads(content[20 : 20 + length]), content[28 + length :]


def test_glb_document():
    document, blob = parse_glb(export.glb_bytes(reconstruction()))
    assert document["asset"] == {"version": "2.0", "generator": "hrn_opt"}
    assert [document[kind][0]["name"] for kind in ("meshes", "materials", "textures")] == ["face", "skin", "texture"]
    assert document["materials"][0]["extensions"] == {"KHR_materials_unlit": {}}
    assert document["extensionsUsed"] == ["KHR_materials_unlit"] and "extensionsRequired" not in document
    assert document["images"][0]["mimeType"] == "image/png"
    assert sorted(view.get("target", 0) for view in document["bufferViews"]) == [0, 34962, 34962, 34962, 34963]
    assert document["buffers"][0]["byteLength"] <= len(blob)


def test_clay_has_no_texture_and_takes_light():
    document, _ = parse_glb(export.glb_bytes(reconstruction(), textured=False))
    assert not document.get("images") and not document.get("textures") and not document.get("extensionsUsed")
    assert document["materials"][0]["name"] == "clay"
    assert "TEXCOORD_0" not in document["meshes"][0]["primitives"][0]["attributes"]
    read = trimesh.load(io.BytesIO(export.glb_bytes(reconstruction(), False)), file_type="glb", force="mesh")
    assert read.area == pytest.approx(area_m2(curved_mesh()), rel=1e-6)


@pytest.fixture
def jpeg_above_32_px(monkeypatch):
    monkeypatch.setattr(export, "_JPEG_ABOVE_PX", 32)  # a real large texture would take seconds


def test_large_textures_are_embedded_as_jpeg_and_written_as_png(tmp_path, jpeg_above_32_px):
    large = reconstruction()
    png, glb = export.write(large, tmp_path, ("png", "glb"))
    document, blob = parse_glb(glb.read_bytes())
    assert document["images"][0]["mimeType"] == "image/jpeg"
    view = document["bufferViews"][document["images"][0]["bufferView"]]
    embedded = Image.open(io.BytesIO(blob[view["byteOffset"] : view["byteOffset"] + view["byteLength"]]))
    assert np.abs(np.asarray(embedded).astype(int) - large.texture.rgb).max() <= 6  # JPEG 95 on a gradient
    assert np.array_equal(np.asarray(Image.open(png)), large.texture.rgb)


def validator_report(path):
    node = shutil.which("node")
    installed = (VALIDATOR / "node_modules" / "gltf-validator").is_dir() or os.environ.get("NODE_PATH")
    if not (node and installed):
        reason = "the glTF validator needs node and `npm install --prefix tests/gltf`"
        pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
    done = subprocess.run([node, str(VALIDATOR / "validate.mjs"), str(path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def spoiled_normals_mesh():
    mesh = curved_mesh()
    normals = mesh.normals.clone() * 3
    normals[7] = 0
    normals[8] = float("nan")
    return Mesh(mesh.vertices, mesh.faces, normals, mesh.uv)


def khronos_messages(folder, glb):
    path = folder / "face.glb"
    path.write_bytes(glb)
    return validator_report(path)["messages"]


@pytest.mark.parametrize("textured", [True, False], ids=["textured", "clay"])
@pytest.mark.parametrize("mesh", [curved_mesh, spoiled_normals_mesh])
def test_the_khronos_validator_finds_nothing(tmp_path, mesh, textured):
    assert khronos_messages(tmp_path, export.glb_bytes(reconstruction(mesh()), textured)) == []


def test_the_khronos_validator_finds_nothing_in_an_embedded_jpeg(tmp_path, jpeg_above_32_px):
    assert khronos_messages(tmp_path, export.glb_bytes(reconstruction())) == []


def test_the_khronos_validator_does_look(tmp_path):
    broken = export.glb_bytes(reconstruction()).replace(b'"VEC2"', b'"VEC9"')
    assert khronos_messages(tmp_path, broken) != []


def test_spoiled_normals_are_mended_in_both_formats(tmp_path):
    export.write(reconstruction(spoiled_normals_mesh()), tmp_path)
    document, blob = parse_glb((tmp_path / "Zoë_1.glb").read_bytes())
    accessor = document["accessors"][document["meshes"][0]["primitives"][0]["attributes"]["NORMAL"]]
    view = document["bufferViews"][accessor["bufferView"]]
    normals = np.frombuffer(blob, np.float32, accessor["count"] * 3, view["byteOffset"]).reshape(-1, 3)
    expected = curved_mesh().normals.numpy().copy()
    expected[7:9] = 0, 0, 1
    np.testing.assert_allclose(normals, expected, atol=1e-6)
    lines = [line for line in (tmp_path / "Zoë_1.obj").read_text("utf-8").splitlines() if line.startswith("vn ")]
    np.testing.assert_allclose([[float(x) for x in line.split()[1:]] for line in lines], expected, atol=1e-4)


def test_obj_and_mtl_text():
    text = export.obj_text(curved_mesh(), "a.mtl")
    lines = text.splitlines()
    assert "metre" in lines[0] and lines[1] == "mtllib a.mtl" and "usemtl skin" in lines
    count = {kind: sum(line.startswith(kind + " ") for line in lines) for kind in ("v", "vt", "vn", "f")}
    assert count == {"v": 154, "vt": 154, "vn": 154, "f": 260}
    assert next(line for line in lines if line.startswith("f ")) == "f 1/1/1 2/2/2 13/13/13"
    material = export.mtl_text("a.png").splitlines()
    assert material[0] == "newmtl skin" and "Kd 1 1 1" in material and "map_Kd a.png" in material


@pytest.mark.parametrize(
    ("formats", "files"),
    [
        (("png", "glb", "obj"), ALL_FILES),
        (("png",), ALL_FILES[:1]),
        ("glb", ALL_FILES[1:2]),
        (["obj"], (ALL_FILES[0], *ALL_FILES[2:])),
        (iter(["glb", "glb"]), ALL_FILES[1:2]),
    ],
)
def test_each_format_writes_its_files(tmp_path, formats, files):
    folder = tmp_path / "new" / "deeper"
    assert export.write(reconstruction(), folder, formats) == tuple(folder / name for name in files)
    assert sorted(files_below(tmp_path)) == sorted(f"new/deeper/{name}" for name in files)


def test_png_alone_needs_no_mesh(tmp_path):
    (png,) = export.write(reconstruction(mesh=None), tmp_path, ("png",), stem="a")
    assert png == tmp_path / "a.png" and np.array_equal(np.asarray(Image.open(png)), texture().rgb)


@pytest.mark.parametrize("formats", [(), "stl", ("png", "PNG"), ("glb", "")])
def test_unknown_formats(tmp_path, formats):
    with pytest.raises(OptionInvalid, match="choose from png, glb, obj"):
        export.write(reconstruction(), tmp_path / "new", formats)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("formats", ["glb", "obj", ("png", "glb")])
def test_mesh_formats_without_a_mesh(tmp_path, formats):
    with pytest.raises(OptionInvalid, match='want="mesh"'):
        export.write(reconstruction(mesh=None), tmp_path / "new", formats)
    assert not (tmp_path / "new").exists()
    with pytest.raises(OptionInvalid):
        export.glb_bytes(reconstruction(mesh=None))


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("selfie", "selfie"),
        ("../../etc/passwd", "etc_passwd"),
        ("a\\b:c*d?e", "a_b_c_d_e"),
        ("two words\n\ttab\x00nul\x7f\x85", "two_words_tab_nul"),
        ("Zoë 日本", "Zoë_日本"),
        ("Zoe\u0308", "Zoë"),
        (".hidden.", "hidden"),
        ("", "face"),
        ("///", "face"),
        ("...", "face"),
        ("\ud800", "face"),
        ("日" * 100, "日" * 50),
    ],
)
def test_stems_are_safe_file_names(tmp_path, name, stem):
    assert safe_stem(name) == stem
    (path,) = export.write(reconstruction(), tmp_path, ("png",), stem=name)
    assert path == tmp_path / f"{stem}.png" and path.is_file()


def _below_a_file(folder):
    (folder / "file").write_text("mine")
    return folder / "file" / "out"


@pytest.mark.parametrize(
    "place",
    [
        pytest.param(_below_a_file, id="below-a-file"),
        pytest.param(lambda folder: _below_a_file(folder).parent, id="is-a-file"),
        pytest.param(lambda folder: folder / "new" / ("x" * 300), id="name-too-long"),
        pytest.param(lambda folder: f"{folder}/a\0b", id="nul"),
        pytest.param(lambda folder: "/proc/hrn_opt/out", id="proc"),
    ],
)
def test_unwritable_folders(tmp_path, place):
    folder = place(tmp_path)
    before = files_below(tmp_path), sorted(tmp_path.rglob("*"))
    with pytest.raises(OutputUnwritable, match="choose another folder"):
        export.write(reconstruction(), folder)
    assert (files_below(tmp_path), sorted(tmp_path.rglob("*"))) == before


@pytest.mark.parametrize("failing", ["write", "move"])
@pytest.mark.parametrize("at", range(4))
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("folder_state", ["missing", "empty", "older files"])
def test_a_write_that_fails_leaves_everything_as_it_was(tmp_path, monkeypatch, failing, at, error, folder_state):
    folder = tmp_path / "new" / "out"
    if folder_state != "missing":
        folder.mkdir(parents=True)
    if folder_state == "older files":
        (folder / ALL_FILES[0]).write_bytes(b"old texture")
        (folder / ALL_FILES[3]).write_bytes(b"old material")
    before = files_below(tmp_path), sorted(tmp_path.rglob("*"))
    write_bytes, replace = Path.write_bytes, os.replace

    def failing_write(path, content):
        if path.name == ALL_FILES[at]:
            write_bytes(path, content[: len(content) // 2])
            raise error
        return write_bytes(path, content)

    def failing_replace(source, target):
        if Path(target) == folder / ALL_FILES[at] and Path(source).parent.name != "replaced":
            raise error
        return replace(source, target)

    if failing == "write":
        monkeypatch.setattr(Path, "write_bytes", failing_write)
    else:
        monkeypatch.setattr(os, "replace", failing_replace)
    with pytest.raises(OutputUnwritable if isinstance(error, OSError) else KeyboardInterrupt):
        export.write(reconstruction(), folder)
    monkeypatch.undo()
    assert (files_below(tmp_path), sorted(tmp_path.rglob("*"))) == before


def test_a_folder_in_the_way_of_a_file(tmp_path):
    (tmp_path / ALL_FILES[2]).mkdir()
    with pytest.raises(OutputUnwritable, match="is a folder"):
        export.write(reconstruction(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [ALL_FILES[2]]


def test_files_of_the_same_name_are_replaced(tmp_path):
    for name in ALL_FILES:
        (tmp_path / name).write_bytes(b"old")
    paths = export.write(reconstruction(), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(ALL_FILES)
    assert all(len(path.read_bytes()) > 3 for path in paths)


def test_nothing_handed_in_is_changed(tmp_path):
    original = reconstruction()
    export.write(original, tmp_path)
    for name in ("vertices", "faces", "normals", "uv"):
        assert torch.equal(getattr(original.mesh, name), getattr(curved_mesh(), name))
    assert np.array_equal(original.texture.rgb, texture().rgb)
