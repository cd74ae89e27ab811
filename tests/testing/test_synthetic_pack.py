"""The made-up pack is one: the same bytes from the same seed, published keys and shapes, and a face to be found."""

import hashlib

import numpy as np
import pytest
import torch

from hrn_opt.errors import OptionInvalid
from hrn_opt.hrn.find.faces import FindNetworks, find_faces, working_photo
from hrn_opt.hrn.find.landmarks import BoxRegressor
from hrn_opt.hrn.networks import generator, landmarks106, recon, retinaface, s3fd, unet
from hrn_opt.hrn.networks.folding import load_network
from hrn_opt.hrn.pack import published
from hrn_opt.hrn.pack.checkpoint import load_checkpoint
from hrn_opt.hrn.pack.prepared import open_prepared
from testing.synthetic_pack import networks
from testing.synthetic_pack.pack import SIZES, write_pack


def test_a_seed_gives_the_same_pack_again_and_another_seed_another(published_pack, tmp_path):
    again, other = write_pack(tmp_path / "again", seed=3), write_pack(tmp_path / "other", seed=4, detectors=False)
    assert published.verify(again, whole=True).missing == ()
    assert set(published.verify(other).missing) == {
        path for path, part in published.FILES.items() if part != published.Part.RECONSTRUCT
    }
    for path in ("assets/BFM_model_front.mat", "assets/bfm_uvs2.npy", "assets/bfm_tex_mean2.npy", "segment_face.pb"):
        assert (again / path).read_bytes() == (published_pack / path).read_bytes()
    same = load_checkpoint(again / published.WEIGHTS)["net_recon"]
    for name, value in load_checkpoint(published_pack / published.WEIGHTS)["net_recon"].items():
        assert torch.equal(value, same[name]), name
    digest = lambda folder: hashlib.sha256((folder / published.MORPHABLE_MODEL).read_bytes()).digest()  # noqa: E731
    assert digest(again) != digest(other)


def test_it_is_small_on_disk(published_pack):
    used = sum(path.stat().st_blocks * 512 for path in published_pack.rglob("*"))
    assert used < 60e6  # the albedo basis, 250 MB long, is mostly holes


def test_uv_dtype_and_size(tmp_path):
    write_pack(tmp_path, seed=1, detectors=False, uv_dtype="float32")
    assert np.load(tmp_path / published.UV_COORDINATES).dtype == np.float32
    with pytest.raises(OptionInvalid, match="'full' or 'small'"):
        write_pack(tmp_path, seed=1, size="huge")


def test_the_full_size_has_the_published_shapes():
    full = SIZES["full"]
    assert (full.vertices, full.width, full.pyramid, full.hidden) == (35709, 64, 256, 200)
    assert (full.grid - 1) * full.grid < full.vertices <= full.grid**2


OFFICIAL = "modelscope.models.cv.face_reconstruction.models"


def official_network(name):
    """The published module, width 64, with random weights."""
    needed = "the official networks need modelscope's own needs (the extra oracle)"
    if name in ("mid", "high"):
        define = pytest.importorskip(f"{OFFICIAL}.pix2pix.networks", reason=needed).define_G
        channels, out = {"mid": (6, 3), "high": (9, 1)}[name]
        return define(channels, out, 64, "resnet_9blocks", "instance", True, "normal", 0.02, [])
    if name == "recon":
        define = pytest.importorskip(f"{OFFICIAL}.networks", reason=needed).define_net_recon
        return define("resnet50", use_last_fc=False, init_path=None)
    if name == "de_retouch":
        return pytest.importorskip(f"{OFFICIAL}.unet", reason=needed).UNet(3, 3)
    nets = pytest.importorskip(f"{OFFICIAL}.facelandmark.nets.large_base_lmks_net", reason=needed)
    return nets.LargeBaseLmksNet(infer=False)


@pytest.mark.parametrize("name", ["recon", "mid", "high", "de_retouch", "landmarks106"])
def test_keys_and_shapes_are_the_official_modules(name):
    ours = {
        "recon": lambda: networks.recon_state(0, 64),
        "mid": lambda: networks.generator_state(0, 64, 6, 3),
        "high": lambda: networks.generator_state(0, 64, 9, 1),
        "de_retouch": lambda: networks.unet_state(0, 64),
        "landmarks106": lambda: networks.landmarks106_state(0, 64),
    }
    official = {key: tuple(value.shape) for key, value in official_network(name).state_dict().items()}
    assert {key: tuple(value.shape) for key, value in ours[name]().items()} == official


@pytest.fixture(scope="module")
def find_networks(prepared_pack):
    opened = open_prepared(prepared_pack)
    box = {f"{name.lower()}": opened.tensor(f"bbox.{name}").numpy() for name in ("W1", "B1", "W2", "B2")}
    return FindNetworks(
        retinaface=load_network(retinaface.RetinaFace, opened.tensors("retinaface")),
        landmarks106=load_network(landmarks106.Landmarks106, opened.tensors("landmarks106")),
        s3fd=load_network(s3fd.S3FD, opened.tensors("s3fd")),
        fan=torch.jit.load(str(opened.fan_path)).eval(),
        regressor=BoxRegressor(**box),
    )


@pytest.mark.parametrize("size_hw", [(480, 640), (700, 500)])
def test_a_face_is_found_in_the_middle_of_any_photo(find_networks, size_hw):
    photo = np.random.default_rng(0).integers(0, 255, (*size_hw, 3), np.uint8)
    with torch.inference_mode():
        (face,) = find_faces(find_networks, working_photo(photo))
    middle = np.array(size_hw[::-1]) / 2
    longer = max(size_hw)
    centre = np.array([face.box.left + face.box.right, face.box.top + face.box.bottom]) / 2
    np.testing.assert_allclose(centre, middle, atol=0.03 * longer)
    assert face.box.width == pytest.approx(200 / 512 * longer, abs=3) and face.score > 0.9
    points = face.points.numpy()
    assert np.abs(points.mean(0) - middle).max() < 0.1 * longer
    jaw, eyes, mouth = points[:17], points[36:48], points[48:68]
    assert eyes[:6, 0].max() < eyes[6:, 0].min() and eyes[:, 1].max() < mouth[:, 1].min() < jaw[8, 1]
    assert 0.15 * longer < np.ptp(points[:, 0]) < 0.5 * longer


def test_the_106_points_lie_on_their_template(find_networks):
    image = torch.rand(2, 3, 224, 224)
    with torch.inference_mode():
        points = find_networks.landmarks106(image)
    np.testing.assert_allclose(points[0], networks.template_106(), atol=0.02)
    assert not torch.equal(points[0], points[1])  # a little of the picture moves them


def test_coefficients_are_as_large_as_a_faces(prepared_pack):
    opened = open_prepared(prepared_pack)
    with torch.inference_mode():
        network = load_network(recon.ReconNet, opened.tensors("recon"))
        blend = load_network(unet.DeRetouchNet, opened.tensors("de_retouch"))(torch.rand(1, 3, 64, 64) * 2 - 1)
        moved = load_network(generator.DetailGenerator, opened.tensors("mid"))(torch.rand(1, 6, 64, 64) * 2 - 1)
        groups = network(torch.rand(1, 3, 224, 224)).split(recon.HEAD_SIZES, 1)
    rms = [float(values.square().mean().sqrt()) for values in groups]
    assert 0.2 < rms[0] < 2 and rms[3] < 0.3 and rms[6] < 0.3  # identity, angles (rad), depth (dm)
    assert blend.isfinite().all() and blend.std() > 1e-4 and moved.isfinite().all() and moved.std() > 1e-3
