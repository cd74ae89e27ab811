"""What load() takes, what it picks, and what it refuses."""

import shutil

import numpy as np
import pytest
import torch

import hrn_opt
from hrn_opt.errors import ModelMissing, OptionInvalid, PackDamaged, PackIncomplete
from hrn_opt.hrn.pack import prepare as prepare_module
from hrn_opt.hrn.pack import published
from hrn_opt.hrn.pack.home import MANIFEST
from hrn_opt.hrn.pack.prepare import prepare


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Where packs are looked for; empty."""
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HRN_OPT_HOME", str(folder))
    return folder


@pytest.fixture
def fetched(home, prepared_pack):
    (home / "prepared").symlink_to(prepared_pack)
    return home


def test_auto_without_a_pack_is_the_embedded_model(home):
    model = hrn_opt.load()
    assert (model.name, model.device, model.precision) == ("builtin", "cpu", "fp32")


def test_auto_with_a_prepared_pack_is_hrn(fetched):
    assert hrn_opt.load(device="cpu").name == "hrn" == hrn_opt.load("hrn", device="cpu").name
    assert hrn_opt.load("builtin").name == "builtin"


@pytest.mark.parametrize("lacking", [None, published.S3FD_WEIGHTS, published.RETINAFACE_WEIGHTS])
def test_without_detectors_the_embedded_model_finds_the_landmarks(home, linked_pack, example_photo, lacking):
    """From photo to texture, one of the detectors' files or all of them missing; and the result says so."""
    for path, part in published.FILES.items():
        if part is published.Part.FIND and lacking in (None, path):
            (linked_pack / path).unlink()
    prepare(linked_pack, home / "prepared")
    model = hrn_opt.load(device="cpu")
    assert model.name == "hrn"
    (face,) = model.find(example_photo)
    assert tuple(face.points.shape) == (68, 2)
    result = model.reconstruct(example_photo, texture_size=256)
    assert [advice.key for advice in result.advice] == ["WithoutDetectors"]
    (known,) = hrn_opt.load("builtin").find(example_photo)
    assert abs(result.face.box.left - known.box.left) < 0.05 * known.box.width
    own = model.reconstruct(example_photo, texture_size=256, landmarks=face.points)
    assert (own.texture.rgb == result.texture.rgb).all()


def test_a_pack_that_is_only_downloaded_is_not_taken(home, published_pack):
    (home / "published").symlink_to(published_pack)
    assert hrn_opt.load().name == "builtin"


def test_hrn_that_is_not_there_is_said(home):
    with pytest.raises(ModelMissing, match="hrn-opt fetch, or use the builtin model"):
        hrn_opt.load("hrn")


def test_a_damaged_pack_is_not_passed_over(home, prepared_pack):
    shutil.copytree(prepared_pack, home / "prepared")
    (home / "prepared" / MANIFEST).write_text("{")
    with pytest.raises(PackDamaged, match="fetch"):
        hrn_opt.load()


def test_a_published_folder_is_prepared_once(home, published_pack, monkeypatch):
    assert hrn_opt.load(published_pack, device="cpu").name == "hrn"
    (made,) = (folder for folder in (home / "packs").iterdir() if folder.is_dir())  # not the lock file
    before = (made / MANIFEST).stat().st_mtime_ns

    def never(*_):
        raise AssertionError("prepared again")

    monkeypatch.setattr(prepare_module, "_made", never)
    assert hrn_opt.load(str(published_pack), device="cpu").name == "hrn"
    assert (made / MANIFEST).stat().st_mtime_ns == before


def test_a_broken_published_folder_leaves_nothing(home, linked_pack):
    (linked_pack / "de_retouching_model.pth").unlink()
    with pytest.raises(PackIncomplete, match=r"de_retouching_model\.pth"):
        hrn_opt.load(linked_pack)
    assert not any((home / "packs").glob("*/*"))


def test_a_prepared_folder_reconstructs(home, prepared_pack):
    model = hrn_opt.load(prepared_pack, device="cpu")
    photo = np.random.default_rng(0).integers(0, 255, (400, 300, 3), np.uint8)
    points = torch.stack([torch.linspace(90, 210, 68), 200 + 60 * torch.sin(torch.arange(68.0))], 1)
    made = model.reconstruct(photo, landmarks=points, skin_mask=np.ones((224, 224)), cheek_widening=0, texture_size=256)
    assert (made.model, made.mask_source, made.texture.size) == ("hrn", "caller", 256)
    assert not any(home.iterdir())  # it is used where it is


@pytest.mark.parametrize("name", ["HRN", "best", "", "/nowhere/at/all", "."])
def test_unknown_models(home, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OptionInvalid, match="'auto', 'builtin', 'hrn', or a pack's folder"):
        hrn_opt.load(name)


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "cpu:x", "", 7.5])
def test_unknown_devices(fetched, device):
    with pytest.raises(OptionInvalid, match="device="):
        hrn_opt.load("hrn", device=device)


@pytest.mark.parametrize("precision", ["half", "float16", "", "FP16"])
def test_unknown_precisions(fetched, precision):
    with pytest.raises(OptionInvalid, match="precision="):
        hrn_opt.load("hrn", device="cpu", precision=precision)


@pytest.mark.parametrize(
    ("fast_bf16", "precision", "named"),
    [(False, "auto", "fp32"), (True, "auto", "bf16"), (True, "fp32", "fp32"), (False, "bf16", "bf16")],
)
def test_the_machine_is_said(fetched, monkeypatch, fast_bf16, precision, named):
    monkeypatch.setattr("hrn_opt.runtime.has_fast_bf16", lambda: fast_bf16)
    assert hrn_opt.load("hrn", device="cpu", precision=precision).precision == named


@pytest.mark.parametrize(
    "options",
    [{"device": "cuda"}, {"precision": "bf16"}, {"memory": 2.0}, {"offload_folder": "somewhere"}],
    ids=lambda options: next(iter(options)),
)
def test_the_embedded_model_refuses_what_is_hrn_s(home, options):
    for model in ("builtin", "auto"):
        with pytest.raises(OptionInvalid, match="not possible with the embedded model"):
            hrn_opt.load(model, **options)


def test_the_embedded_model_takes_what_it_is(home):
    assert hrn_opt.load("builtin", device="cpu", precision="fp32").precision == "fp32"
