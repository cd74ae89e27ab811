"""The prepared pack: what it holds, that it appears whole or not at all, and that it is not made twice."""

import errno
import json
import multiprocessing
import os
import resource
import shutil
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from hrn_opt.errors import OutputUnwritable, PackIncomplete
from hrn_opt.hrn.exact.pytorch3d_uv import uv_fragments
from hrn_opt.hrn.pack import home, manifest
from hrn_opt.hrn.pack import prepare as prepare_module
from hrn_opt.hrn.pack import published as pack
from hrn_opt.hrn.pack.checkpoint import load_checkpoint
from hrn_opt.hrn.pack.matfile import read_mat
from hrn_opt.hrn.pack.prepare import prepare
from hrn_opt.hrn.pack.prepared import open_prepared

VERTICES, FACES = 1669, 3177  # of the small pack


def leftovers(folder):
    """What lies beside the folder under its name; the empty lock file may stay."""
    return [path for path in folder.parent.glob(f".{folder.name}*") if path.suffix != ".lock"]


def nothing_left(folder):
    return not folder.exists() and not leftovers(folder)


def test_names_shapes_and_dtypes_are_as_agreed(opened):
    expected = {
        "alpha": ((1,), torch.float32),
        "beta": ((1,), torch.float32),
        "bfm.mean_shape": ((VERTICES, 3), torch.float32),
        "bfm.shape_basis": ((144, 3 * VERTICES), torch.float32),
        "bfm.albedo_mean": ((256 * 256 * 3,), torch.float32),
        "bfm.albedo_basis": ((80, 256 * 256 * 3), torch.float32),
        "bfm.triangles": ((FACES, 3), torch.int32),
        "bfm.point_faces": ((VERTICES, 8), torch.int32),
        "bfm.keypoints": ((68,), torch.int32),
        "uv.coordinates": ((VERTICES, 2), torch.float32),
        "uv.faces": ((FACES, 3), torch.int32),
        "uv.pixel_triangle": ((256, 256), torch.int32),
        "uv.barycentric": ((256, 256, 3), torch.float32),
        "align.lm3d": ((5, 3), torch.float64),
        "bbox.W1": ((16, 10), torch.float64),
        "bbox.B1": ((16, 1), torch.float64),
        "bbox.W2": ((3, 16), torch.float64),
        "bbox.B2": ((3, 1), torch.float64),
    }
    for name, (shape, dtype) in expected.items():
        value = opened.tensor(name)
        assert (tuple(value.shape), value.dtype) == (shape, dtype), name
        group, _, rest = name.partition(".")
        assert not rest or torch.equal(opened.tensors(group)[rest], value)
    with pytest.raises(PackIncomplete, match=r"has no 'bfm\.nothing'"):
        opened.tensor("bfm.nothing")


def test_the_face_model_is_the_files(published_pack, opened):
    names = ("meanshape", "idBase", "exBase", "tri", "point_buf", "keypoints")
    file = read_mat(published_pack / pack.MORPHABLE_MODEL, names)
    mean = file["meanshape"].astype(np.float32).reshape(-1, 3)
    # PARITY: recentred in float32, as upstream does it.
    recentred = mean - np.mean(mean[:35709], axis=0, keepdims=True)
    assert np.array_equal(opened.tensor("bfm.mean_shape"), recentred)
    basis = opened.tensor("bfm.shape_basis")
    assert np.array_equal(basis[7], file["idBase"][:, 7]) and np.array_equal(basis[80 + 5], file["exBase"][:, 5])
    assert np.array_equal(opened.tensor("bfm.triangles"), file["tri"] - 1)
    point_faces = opened.tensor("bfm.point_faces")
    assert np.array_equal(point_faces, file["point_buf"] - 1) and int(point_faces.max()) == FACES
    assert np.array_equal(opened.tensor("bfm.keypoints"), file["keypoints"][0] - 1)


def test_the_albedo_is_halved_as_torch_would(published_pack, opened):
    for path, name in ((pack.ALBEDO_MEAN, "bfm.albedo_mean"), (pack.ALBEDO_BASIS, "bfm.albedo_basis")):
        maps = np.load(published_pack / path, mmap_mode="r")
        maps = np.array(maps[..., 11] if maps.ndim == 4 else maps)  # (512, 512, 3)
        halved = F.interpolate(torch.from_numpy(maps).permute(2, 0, 1)[None], (256, 256), mode="bilinear")[0]
        ours = opened.tensor(name).view(-1, 256, 256, 3)
        ours = ours[11 if len(ours) > 1 else 0].permute(2, 0, 1)
        # Grey levels: torch may fuse a multiplication and an addition.
        torch.testing.assert_close(ours, halved, atol=2e-5, rtol=0)
        assert halved.std() > 0.1


def test_the_layout_is_rasterised_from_the_files_own_uv(published_pack, opened):
    uv = np.load(published_pack / pack.UV_COORDINATES)
    assert uv.dtype == np.float64 and np.array_equal(opened.tensor("uv.coordinates"), uv.astype(np.float32))
    lines = (published_pack / pack.TEMPLATE_MESH).read_text().splitlines()
    faces = np.array([line.split()[1:] for line in lines if line.startswith("f ")], int) - 1
    assert np.array_equal(opened.tensor("uv.faces"), faces)
    layout = uv_fragments(uv, faces, 256)
    assert np.array_equal(opened.tensor("uv.pixel_triangle"), layout.triangle)
    assert np.array_equal(opened.tensor("uv.barycentric"), layout.barycentric)


def test_faces_of_the_template_may_carry_more_numbers(linked_pack, tmp_path, opened):
    lines = (linked_pack / pack.TEMPLATE_MESH).read_text().splitlines()
    richer = [f"f {' '.join(f'{c}/7/3' for c in line.split()[1:])} " if line[:2] == "f " else line for line in lines]
    (linked_pack / pack.TEMPLATE_MESH).unlink()
    (linked_pack / pack.TEMPLATE_MESH).write_text("\n".join([*richer, "vt 0 0", "f 1 2 3 4"]))
    again = open_prepared(prepare(linked_pack, tmp_path / "prepared"))
    assert torch.equal(again.tensor("uv.faces"), opened.tensor("uv.faces"))


def test_five_points_and_regressor_are_the_files(published_pack, opened):
    points = read_mat(published_pack / pack.ALIGN_POINTS, ("lm",))["lm"]
    expected = [(points[36] + points[39]) / 2, (points[42] + points[45]) / 2, points[30], points[48], points[54]]
    np.testing.assert_array_equal(opened.tensor("align.lm3d"), expected)
    for name, array in read_mat(published_pack / pack.BOX_REGRESSOR, ("W1", "B1", "W2", "B2")).items():
        np.testing.assert_array_equal(opened.tensor(f"bbox.{name}"), array)


def test_five_points_are_the_official_ones(published_pack, opened):
    utils = pytest.importorskip(
        "modelscope.models.cv.face_reconstruction.utils", reason="the official code needs the extra oracle"
    )
    np.testing.assert_array_equal(opened.tensor("align.lm3d"), utils.load_lm3d(str(published_pack / "assets")))


def test_kept_files_are_copied_and_the_manifest_tells_all(published_pack, prepared_pack, opened):
    assert opened.fan_path.read_bytes() == (published_pack / pack.FAN_ARCHIVE).read_bytes()
    assert opened.mask_path.read_bytes() == (published_pack / pack.MASK_GRAPH).read_bytes()
    assert {path.name for path in prepared_pack.iterdir()} == manifest.FILE_NAMES - {manifest.ONNX_MASK}
    assert opened.has_detectors and opened.need_detectors() is None
    told = json.loads((prepared_pack / home.MANIFEST).read_text())
    assert told["format"] == manifest.FORMAT_VERSION and set(told["sources"]) == set(pack.FILES)
    for path in (pack.MASK_GRAPH, pack.TEMPLATE_MESH):
        assert told["sources"][path]["sha256"] == prepare_module.sha256(published_pack / path)
    assert all(path.stat().st_mode & 0o044 == 0o044 for path in prepared_pack.iterdir())


def test_a_pack_without_detectors_is_prepared_and_says_so(linked_pack, tmp_path):
    for path, part in pack.FILES.items():
        if part is not pack.Part.RECONSTRUCT and path != pack.LANDMARKS106_WEIGHTS:
            (linked_pack / path).unlink()
    opened = open_prepared(prepare(linked_pack, tmp_path / "prepared"))
    assert not opened.has_detectors and opened.fan_path is None and opened.mask_path is None
    assert opened.tensors("landmarks106") and not opened.tensors("s3fd")
    with pytest.raises(PackIncomplete, match="give the 68 landmarks with the photo, or fetch the whole pack"):
        opened.need_detectors()


def test_nothing_is_done_twice(published_pack, own_pack, monkeypatch):
    def never(*_):
        raise AssertionError("prepared again")

    monkeypatch.setattr(prepare_module, "_made", never)
    before = (own_pack / home.MANIFEST).stat()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        monkeypatch.setattr(prepare_module, "sha256", never)
        assert prepare(published_pack, own_pack) == own_pack
    assert (own_pack / home.MANIFEST).stat().st_mtime_ns == before.st_mtime_ns


def test_a_copy_with_other_times_is_known_by_its_hashes(published_pack, linked_pack, own_pack, monkeypatch):
    monkeypatch.setattr(prepare_module, "_made", None)
    (linked_pack / pack.BOX_REGRESSOR).unlink()
    shutil.copy(published_pack / pack.BOX_REGRESSOR, linked_pack / pack.BOX_REGRESSOR)
    os.utime(linked_pack / pack.BOX_REGRESSOR, (1, 1))
    prepare(linked_pack, own_pack)
    assert open_prepared(own_pack).manifest.sources[pack.BOX_REGRESSOR]["mtime_ns"] == 1_000_000_000
    monkeypatch.setattr(prepare_module, "sha256", None)
    prepare(linked_pack, own_pack)  # and the new time is remembered


def test_a_changed_file_is_warned_of_and_taken_up(linked_pack, own_pack):
    checkpoint = load_checkpoint(linked_pack / pack.WEIGHTS)
    checkpoint["alpha"] += 0.5
    (linked_pack / pack.WEIGHTS).unlink()
    torch.save(checkpoint, linked_pack / pack.WEIGHTS)
    with pytest.warns(UserWarning, match=r"^pytorch_model\.pt changed since the pack was first prepared") as caught:
        prepare(linked_pack, own_pack)
    assert caught[0].filename == __file__
    assert float(open_prepared(own_pack).tensor("alpha")) == pytest.approx(0.6)
    assert not leftovers(own_pack)


def test_other_peoples_folders_are_left_alone(published_pack, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(OutputUnwritable, match=r"holds other files \(notes\.txt\)"):
        prepare(published_pack, tmp_path)
    with pytest.raises(OutputUnwritable, match="is a file"):
        prepare(published_pack, tmp_path / "notes.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def full_disk(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("broken", ["save_file", "shutil.copyfile", "_flush"])
def test_a_full_disk_leaves_nothing(published_pack, tmp_path, monkeypatch, broken):
    monkeypatch.setattr(f"hrn_opt.hrn.pack.prepare.{broken}", full_disk)
    with pytest.raises(OutputUnwritable, match=r"No space left on device\); free 0\.6 GB"):
        prepare(published_pack, tmp_path / "prepared")
    assert nothing_left(tmp_path / "prepared")


def test_a_full_disk_under_safetensors_own_writer(published_pack, tmp_path):
    """A limit on the size of files stands in for the disk: the writer's own error, not one of ours."""

    def limited():
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000_000, resource.RLIM_INFINITY))

    code = (
        "import sys; from pathlib import Path; from hrn_opt.hrn.pack.prepare import prepare\n"
        "prepare(*map(Path, sys.argv[1:]))"
    )
    target = tmp_path / "prepared"
    run = subprocess.run(
        [sys.executable, "-c", code, str(published_pack), str(target)],
        capture_output=True,
        text=True,
        preexec_fn=limited,
    )
    assert run.returncode == 1 and "OutputUnwritable" in run.stderr.splitlines()[-1]
    assert nothing_left(target)


def test_a_full_disk_keeps_the_old_pack(linked_pack, own_pack, monkeypatch):
    (linked_pack / pack.MASK_GRAPH).unlink()
    monkeypatch.setattr("hrn_opt.hrn.pack.prepare.save_file", full_disk)
    with pytest.raises(OutputUnwritable):
        prepare(linked_pack, own_pack)
    assert open_prepared(own_pack).mask_path.is_file()


@pytest.mark.parametrize("moment", ["save_file", "_flush", "Manifest.write"])
def test_an_interruption_leaves_nothing(published_pack, tmp_path, monkeypatch, moment):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(f"hrn_opt.hrn.pack.prepare.{moment}", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare(published_pack, tmp_path / "prepared")
    assert nothing_left(tmp_path / "prepared")


def test_what_a_killed_run_left_is_no_pack_and_is_cleared(published_pack, tmp_path):
    code = (
        "import os, signal, sys; from pathlib import Path; from hrn_opt.hrn.pack import manifest, prepare\n"
        "manifest.Manifest.write = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "prepare.prepare(*map(Path, sys.argv[1:]))"
    )
    target = tmp_path / "prepared"
    run = subprocess.run([sys.executable, "-c", code, str(published_pack), str(target)], capture_output=True)
    assert run.returncode < 0 and not target.exists()
    (leftover,) = tmp_path.glob(".prepared.partial-*")
    prepare(published_pack, target)
    assert not leftover.exists() and open_prepared(target).has_detectors


def prepare_quietly(published, folder):
    torch.set_num_threads(1)
    prepare(published, folder)


def test_two_processes_make_one_pack(published_pack, tmp_path):
    context = multiprocessing.get_context("spawn")
    target = tmp_path / "prepared"
    both = [context.Process(target=prepare_quietly, args=(published_pack, target)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(120)
    assert [process.exitcode for process in both] == [0, 0]
    assert open_prepared(target).has_detectors and not leftovers(target)


def test_progress_rises_to_1(published_pack, tmp_path):
    told = []
    prepare(published_pack, tmp_path / "prepared", progress=lambda step, fraction: told.append((fraction, step)))
    assert told == sorted(told) and told[-1] == (1.0, "Prepared") and len(told) >= 4


def test_a_converted_mask_outlives_preparing_again(published_pack, tmp_path):
    folder = tmp_path / "prepared"
    prepare(published_pack, folder)
    (folder / "segment_face.onnx").write_bytes(b"converted")
    (folder / home.MANIFEST).unlink()  # no longer usable: made anew
    prepare(published_pack, folder)
    assert (folder / "segment_face.onnx").read_bytes() == b"converted" and home.is_prepared(folder)
