"""Packs that are not what they should be: each says in one sentence which file, what is wrong, and what to do."""

import os
import pickle
import re
import zipfile

import numpy as np
import pytest
import torch

from hrn_opt.errors import PackDamaged, PackError, PackForeign, PackIncomplete
from hrn_opt.hrn.pack import home, published
from hrn_opt.hrn.pack.assets import read_assets
from hrn_opt.hrn.pack.checkpoint import load_checkpoint
from hrn_opt.hrn.pack.prepare import prepare
from hrn_opt.hrn.pack.prepared import Manifest, open_prepared
from testing.synthetic_pack.pack import write_mat

needed = [path for path, part in published.FILES.items() if part == published.Part.RECONSTRUCT]


def replace(folder, path, content):
    """The file of a linked pack, with other bytes."""
    (folder / path).unlink()
    (folder / path).write_bytes(content)


def replace_checkpoint(folder, path, change):
    """The checkpoint of a linked pack after change(checkpoint)."""
    checkpoint = load_checkpoint(folder / path)
    change(checkpoint)
    (folder / path).unlink()
    torch.save(checkpoint, folder / path)


def refuses(folder, error, match):
    """Preparing fails with one such sentence and leaves nothing; or leaves out an optional file, and says so."""
    target = folder.with_name("prepared")
    try:
        prepare(folder, target)
    except error as refusal:
        said = str(refusal)
        assert not target.exists()
        assert re.search("(fetch|download) the pack again|--revision", said, re.IGNORECASE)
    else:
        ((path, said),) = Manifest.read(target).notes.items()
        assert published.FILES[path] is not published.Part.RECONSTRUCT
        assert open_prepared(target).has_detectors == (published.FILES[path] is published.Part.MASK)
    assert re.search(match, said) and "\n" not in said, said
    assert not list(target.parent.glob(".prepared.partial-*"))


def test_a_whole_pack_is_reported_whole(published_pack):
    report = published.verify(published_pack, whole=True)
    assert set(report.sizes) == set(published.FILES) and report.missing == () and report.can_find
    assert published.is_published(published_pack)


@pytest.mark.parametrize("path", needed)
def test_missing_file(linked_pack, path):
    (linked_pack / path).unlink()
    refuses(linked_pack, PackIncomplete, f"{path} is missing")


def test_missing_files_are_all_named(tmp_path):
    with pytest.raises(PackIncomplete, match=r"pytorch_model\.pt, .*BBRegressorParam_r\.mat are missing"):
        published.verify(tmp_path)
    with pytest.raises(PackIncomplete, match="is no folder"):
        published.verify(tmp_path / "nowhere")
    assert not published.is_published(tmp_path)


@pytest.mark.parametrize("path", [path for path in published.FILES if path not in needed])
def test_files_for_finding_and_the_mask_may_be_missing_unless_all_are_asked_for(linked_pack, path):
    (linked_pack / path).unlink()
    report = published.verify(linked_pack)
    assert report.missing == (path,) and report.can_find == (path == published.MASK_GRAPH)
    with pytest.raises(PackIncomplete, match="is missing"):
        published.verify(linked_pack, whole=True)


@pytest.mark.parametrize("path", list(published.FILES))
def test_empty_file(linked_pack, path):
    replace(linked_pack, path, b"")
    refuses(linked_pack, PackDamaged, f"{path} is empty")


@pytest.mark.parametrize("share", [0.3, 0.999])
@pytest.mark.parametrize("path", [path for path in published.FILES if not path.endswith(".obj")])
def test_truncated_file(linked_pack, path, share):
    original = (linked_pack / path).resolve()
    length = int(original.stat().st_size * share)
    (linked_pack / path).unlink()
    with original.open("rb") as file, (linked_pack / path).open("wb") as cut:
        cut.write(file.read(min(length, 1_000_000)))
        cut.truncate(length)  # the long albedo basis is mostly holes anyway
    refuses(linked_pack, (PackDamaged, PackIncomplete), path.split("/")[-1].replace(".", "[.]"))


def test_truncated_template_mesh(linked_pack):
    content = (linked_pack / published.TEMPLATE_MESH).read_bytes()
    replace(linked_pack, published.TEMPLATE_MESH, content[:200])
    refuses(linked_pack, PackDamaged, "template_bfm.obj has no faces")


class Touch:
    """Unpickling this makes a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize(
    ("path", "form"),
    [
        (published.WEIGHTS, "zip"),
        (published.WEIGHTS, "pickle"),
        (published.RETOUCH_WEIGHTS, "old"),
        (published.LANDMARKS106_WEIGHTS, "zip"),
        (published.RETINAFACE_WEIGHTS, "old"),
        (published.S3FD_WEIGHTS, "old"),
    ],
)
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_pickle_that_would_run_code_in_the_place_of_weights_is_refused_unrun(linked_pack, tmp_path, path, form):
    trap = tmp_path / "sprung"
    (linked_pack / path).unlink()
    content = {"net_recon": Touch(trap), "generator": {}, "state_dict": {}}
    if form == "pickle":
        (linked_pack / path).write_bytes(pickle.dumps(content))
    else:
        torch.save(content, linked_pack / path, _use_new_zipfile_serialization=form == "zip")
    refuses(linked_pack, PackError, "is no set of named weights|is truncated or damaged|lacks")
    assert not trap.exists()
    pickle.loads(pickle.dumps(Touch(trap)))
    assert trap.exists()  # the trap works


@pytest.mark.parametrize("content", [b"<html>Not found</html>", b"hello world" * 99, b"PK\x03\x04" + b"x" * 999])
def test_other_files_under_a_checkpoints_name(linked_pack, content):
    replace(linked_pack, published.RETOUCH_WEIGHTS, content)
    refuses(linked_pack, PackDamaged, "de_retouching_model.pth is truncated or damaged")


def test_a_checkpoint_of_something_else(linked_pack):
    (linked_pack / published.S3FD_WEIGHTS).unlink()
    torch.save([torch.zeros(2)], linked_pack / published.S3FD_WEIGHTS)
    refuses(linked_pack, PackDamaged, "s3fd-619a316812.pth holds no named weights")


@pytest.mark.parametrize(
    ("path", "key"),
    [(published.WEIGHTS, key) for key in ("net_recon", "mid_net", "high_net", "alpha", "beta")]
    + [(published.RETOUCH_WEIGHTS, "generator"), (published.LANDMARKS106_WEIGHTS, "state_dict")],
)
def test_missing_part_of_a_checkpoint(linked_pack, path, key):
    replace_checkpoint(linked_pack, path, lambda checkpoint: checkpoint.pop(key))
    refuses(linked_pack, PackForeign, f"{path} is whole, but of another revision or model: it has no '{key}'")


NETWORK_KEYS = [
    (published.WEIGHTS, "net_recon", "backbone.layer3.2.bn2.running_var"),
    (published.WEIGHTS, "mid_net", "model.14.conv_block.6.weight"),
    (published.RETOUCH_WEIGHTS, "generator", "up2.conv.conv.3.bias"),
    (published.LANDMARKS106_WEIGHTS, "state_dict", "module.block19.weight"),
    (published.RETINAFACE_WEIGHTS, None, "ClassHead.1.conv1x1.bias"),
    (published.S3FD_WEIGHTS, None, "fc7_mbox_loc.weight"),
]


@pytest.mark.parametrize(("path", "part", "key"), NETWORK_KEYS)
def test_missing_key(linked_pack, path, part, key):
    replace_checkpoint(linked_pack, path, lambda checkpoint: (checkpoint[part] if part else checkpoint).pop(key))
    refuses(linked_pack, PackIncomplete, f"{path}.*{key.removeprefix('module.')}")


@pytest.mark.parametrize(("path", "part", "key"), NETWORK_KEYS)
def test_wrong_shape(linked_pack, path, part, key):
    def change(checkpoint):
        state = checkpoint[part] if part else checkpoint
        state[key] = torch.cat([state[key], state[key]])

    replace_checkpoint(linked_pack, path, change)
    refuses(linked_pack, PackDamaged, f"{path}.*{key.removeprefix('module.')} has shape")


def test_surplus_and_missing_counters_are_no_fault(linked_pack, tmp_path):
    def change(checkpoint):
        state = checkpoint["net_recon"]
        for key in [key for key in state if key.endswith("num_batches_tracked")]:
            del state[key]
        state["unknown.weight"] = torch.zeros(3)
        checkpoint["epoch"] = np.float64(3)

    replace_checkpoint(linked_pack, published.WEIGHTS, change)
    assert prepare(linked_pack, tmp_path / "prepared").is_dir()


def test_the_head_models_mask_graph_is_foreign(linked_pack):
    content = (linked_pack / published.MASK_GRAPH).read_bytes()
    replace(
        linked_pack,
        published.MASK_GRAPH,
        content.replace(b"output_alpha", b"head_outputs").replace(b"input_i", b"other_i"),
    )
    refuses(linked_pack, (), r"segment_face\.pb belongs to another model.* operations: .*Conv2D \d")


def test_a_zip_that_is_no_landmark_network_is_foreign(linked_pack):
    (linked_pack / published.FAN_ARCHIVE).unlink()
    with zipfile.ZipFile(linked_pack / published.FAN_ARCHIVE, "w") as archive:
        archive.writestr("readme.txt", "hello")
    refuses(linked_pack, PackForeign, "3DFAN4-4a694010b9.zip is no TorchScript archive")


def test_a_flipped_bit_in_the_landmark_network_is_seen(linked_pack):
    content = bytearray((linked_pack / published.FAN_ARCHIVE).read_bytes())
    content[len(content) // 2] ^= 1
    replace(linked_pack, published.FAN_ARCHIVE, bytes(content))
    refuses(linked_pack, PackDamaged, "3DFAN4-4a694010b9.zip is (truncated or )?damaged")


def model_arrays(folder):
    from hrn_opt.hrn.pack.matfile import read_mat

    names = ("meanshape", "idBase", "exBase", "tri", "point_buf", "keypoints")
    return {name: np.array(array) for name, array in read_mat(folder / published.MORPHABLE_MODEL, names).items()}


@pytest.mark.parametrize(
    ("name", "change", "error", "match"),
    [
        ("idBase", lambda a: a[:, :79], PackDamaged, r"idBase in .* has shape \(5007, 79\) instead of 5007×80"),
        ("exBase", lambda a: a[:-3], PackDamaged, "exBase in .* has shape"),
        ("tri", lambda a: a - 1, PackDamaged, r"tri in .* points outside 1\.\.1669"),
        ("tri", lambda a: a + 1, PackDamaged, "points outside"),
        ("point_buf", lambda a: a + 1, PackDamaged, "point_buf in .* points outside"),
        ("keypoints", lambda a: a[:, :67], PackDamaged, "keypoints in .* has shape"),
        ("meanshape", lambda a: a[:, :-1], PackDamaged, "meanshape in .* has shape"),
        ("keypoints", None, PackIncomplete, "assets/BFM_model_front.mat has no 'keypoints'"),
    ],
)
def test_wrong_arrays_in_the_morphable_model(linked_pack, name, change, error, match):
    arrays = model_arrays(linked_pack)
    array = arrays.pop(name)
    if change:
        arrays[name] = change(array)
    (linked_pack / published.MORPHABLE_MODEL).unlink()
    write_mat(linked_pack / published.MORPHABLE_MODEL, arrays)
    with pytest.raises(error, match=match):
        read_assets(linked_pack)


@pytest.mark.parametrize(
    ("path", "array", "match"),
    [
        (published.UV_COORDINATES, np.zeros((1669, 3)), "has shape"),
        (published.UV_COORDINATES, np.full((1669, 2), np.nan), "no coordinates"),
        (published.UV_COORDINATES, np.zeros((1669, 2), object), "truncated or damaged"),
        (published.ALBEDO_MEAN, np.zeros((256, 256, 3), np.float32), "has shape"),
        (published.ALBEDO_BASIS, np.zeros((512, 512, 80), np.float32), "has shape"),
    ],
)
def test_wrong_arrays_in_npy_files(linked_pack, path, array, match):
    (linked_pack / path).unlink()
    np.save(linked_pack / path, array, allow_pickle=True)
    with pytest.raises(PackDamaged, match=match):
        read_assets(linked_pack)


@pytest.mark.parametrize("line", ["f 1 2 9999", "f 0 1 2", "f a b c", "f 1 2 3 4"])
def test_a_template_with_a_bad_face(linked_pack, line):
    lines = (linked_pack / published.TEMPLATE_MESH).read_text().splitlines()
    first = next(index for index, text in enumerate(lines) if text.startswith("f "))
    lines.insert(first, line)
    replace(linked_pack, published.TEMPLATE_MESH, "\n".join(lines).encode())
    with pytest.raises(PackDamaged, match=r"template_bfm\.obj"):
        read_assets(linked_pack)


def test_packs_live_where_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.setenv(home.HOME_VARIABLE, str(tmp_path))
    assert home.default_folder() == tmp_path
    monkeypatch.delenv(home.HOME_VARIABLE)
    assert home.default_folder().parts[-2:] == (".cache", "hrn_opt")
