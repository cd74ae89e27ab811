"""Several faces of a photo as one batch: each as if it were alone, in its own place."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

import hrn_opt
from hrn_opt.hrn import model as hrn_model
from hrn_opt.hrn import stages
from hrn_opt.hrn.batch import joined, one_of
from hrn_opt.hrn.shape.morphable import Pose
from tests.hrn.crowd import PHOTO, faces


@pytest.fixture
def reconstructor(prepared_pack):
    return hrn_opt.load(str(prepared_pack), device="cpu", precision="fp32")


def test_results_are_those_of_single_faces(reconstructor, monkeypatch):
    monkeypatch.setattr(hrn_model, "FACES_TOGETHER", 2)
    sizes, keep = [], stages.detailed_shape
    monkeypatch.setattr(stages, "detailed_shape", lambda *inputs: sizes.append(len(inputs[3])) or keep(*inputs))
    options = {"want": "mesh", "texture_size": 256, "faces": faces(3), "cheek_widening": 0.0}
    together = reconstructor.reconstruct_all(PHOTO, **options)
    assert sizes == [2, 1] and [one.face_index for one in together] == [0, 1, 2]
    for number, found in enumerate(together):
        alone = reconstructor.reconstruct(PHOTO, face=number, **options)
        assert found.face is options["faces"][number] and found.mask_source == alone.mask_source
        # Convolutions sum in another order for two faces than for one: rounding, as between two machines.
        assert_close(found.coefficients, alone.coefficients, atol=5e-6, rtol=0)
        assert_close(found.mesh.vertices, alone.mesh.vertices, atol=5e-5, rtol=0)
        assert_close(found.displacement, alone.displacement, atol=5e-5, rtol=0)
        # It moves a texel over the jumps of the unwrap now and then, so the mean is bounded.
        assert (found.texture_256 - alone.texture_256).abs().mean() < 1e-3
        assert torch.equal(found.camera.matrix, alone.camera.matrix)
        assert [timing.stage for timing in found.timings] == [timing.stage for timing in alone.timings]
    first, second = (one.texture_256 for one in together[:2])
    assert (first - second).abs().mean() > 0.02  # else there is nothing to mix up


def test_no_faces_make_nothing(reconstructor):
    assert reconstructor.reconstruct_all(PHOTO, faces=()) == ()


def test_a_tight_plan_takes_one_face_at_a_time(reconstructor):
    model = reconstructor._model
    assert model.faces_at_once == 4
    for reserved, expected in ((336_000_000, 1), (168_000_000, 3), (60_000_000, 4)):
        plan = type(model.plan)(model.plan.device, model.plan.device_map, reserved, faces_at_once=8)
        tight = hrn_model.HrnModel(model.pack, model.networks, model.assets, plan)
        assert tight.faces_at_once == expected


def test_cut_and_joined_again():
    values = np.random.default_rng(0).normal(size=(3, 5))
    tensor = torch.from_numpy(values)
    batch = stages.CoarseShape(tensor, tensor + 1, Pose(tensor + 2, tensor + 3))
    parts = [one_of(batch, index) for index in range(3)]
    assert parts[1].pose.translation.shape == (1, 5) and torch.equal(parts[1].pose.translation[0], tensor[1] + 3)
    again = joined(parts)
    assert torch.equal(again.coefficients, tensor) and torch.equal(again.pose.rotation, tensor + 2)
