"""The networks that find faces: what they load, and what they answer."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from hrn_opt.errors import PackDamaged, PackIncomplete
from hrn_opt.hrn.find import landmarks
from hrn_opt.hrn.networks import landmarks106, resnet, retinaface, s3fd
from hrn_opt.hrn.networks.folding import load_network
from tests.hrn.find.stand_ins import ANCHOR_COUNT, FakeFan

# Networks


def state_of(*sources) -> dict[str, Tensor]:
    """A small checkpoint with the keys and shapes that the sources name."""
    torch.manual_seed(2)
    state = {}
    for source in (source for group in sources for source in group.values()):
        state[f"{source.conv}.weight"] = torch.randn(source.shape) / 10
        if source.bias:
            state[f"{source.conv}.bias"] = torch.randn(source.shape[0])
        if source.norm:
            for part in ("weight", "bias", "running_mean"):
                state[f"{source.norm}.{part}"] = torch.randn(source.shape[0])
            state[f"{source.norm}.running_var"] = torch.rand(source.shape[0]) + 0.5
    return state


@pytest.fixture(scope="module")
def retinaface_state() -> dict[str, Tensor]:
    levels = [
        group
        for level in range(3)
        for group in (retinaface._context_sources(level, 16), retinaface._head_sources(level, 16))
    ]
    return state_of(resnet.sources(4, "body"), retinaface._pyramid_sources(4, 16), *levels)


def test_retinaface_loads_and_answers_one_row_an_anchor(retinaface_state):
    extra = {
        "LandmarkHead.0.conv1x1.weight": torch.zeros(20, 16, 1, 1),
        "body.bn1.num_batches_tracked": torch.tensor(3),
    }
    tensors = retinaface.from_official({f"module.{key}": value for key, value in (retinaface_state | extra).items()})
    raw = load_network(retinaface.RetinaFace, tensors)(torch.randn(2, 3, 512, 512))
    assert raw.logits.shape == (2, ANCHOR_COUNT, 2) and raw.offsets.shape == (2, ANCHOR_COUNT, 4)
    assert raw.logits.isfinite().all()


def test_a_missing_key_is_named(retinaface_state):
    state = {key: value for key, value in retinaface_state.items() if key != "ssh2.conv7x7_3.1.running_mean"}
    with pytest.raises(PackIncomplete, match=r"ssh2\.conv7x7_3\.1\.running_mean"):
        retinaface.from_official(state)


def test_a_wrong_shape_is_named(retinaface_state):
    with pytest.raises(PackDamaged, match=r"ClassHead.1.conv1x1.weight .*\(4, 8, 1, 1\)"):
        retinaface.from_official(retinaface_state | {"ClassHead.1.conv1x1.weight": torch.zeros(4, 8, 1, 1)})


def test_landmarks106_and_s3fd_name_what_lacks():
    with pytest.raises(PackIncomplete, match=r"block1.0.weight"):
        landmarks106.from_official({})
    with pytest.raises(PackIncomplete, match=r"conv1_1.weight"):
        s3fd.from_official({})


def test_the_106_points_count_rows_as_x():
    heatmaps = torch.full((1, 106, 14, 14), -50.0)
    heatmaps[:, :, 3, 11] = 50.0
    points = landmarks106._mean_position(heatmaps)
    torch.testing.assert_close(points[0, 0], torch.tensor([3 / 14, 11 / 14]))


def test_fan_may_answer_with_every_stacks_heatmaps():
    class Stacks(FakeFan):
        def forward(self, image: Tensor) -> list[Tensor]:
            last = super().forward(image)
            return [torch.zeros_like(last), last]

    crop, view = np.zeros((1, 224, 224, 3), np.uint8), [landmarks.FanView((100.0, 90.0), 1.0)]
    assert landmarks.points_68(Stacks(), crop, view).tolist() == landmarks.points_68(FakeFan(), crop, view).tolist()
