"""Single layers: the fast ones are held to torch's own."""

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from hrn_opt.hrn.networks import (
    generator,
    winograd,
)
from hrn_opt.hrn.networks.layers import Conv3x3
from tests.hrn.networks.seeded import randn, relative_error


@pytest.mark.parametrize("batch", [1, 2])
def test_instance_norm_is_torchs_own(batch):
    torch.manual_seed(6)
    x = (torch.randn(batch, 5, 12, 9) * 3 + 2).contiguous(memory_format=torch.channels_last)
    before = x.clone()
    # Two roundings of values up to about 4; a batch-wide norm would be off by 0.1.
    assert_close(generator.instance_norm(x), F.instance_norm(x), rtol=1e-5, atol=5e-6)
    assert torch.equal(x, before)


@torch.inference_mode()
@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("size_hw", [(32, 36), (64, 80), (4, 8)])
def test_winograd_is_a_convolution(size_hw, with_bias):
    """(64, 80) takes two rounds of tiles, the last one shorter."""
    torch.manual_seed(7)
    x = torch.randn(2, 20, size_hw[0] + 2, size_hw[1] + 2).contiguous(memory_format=torch.channels_last)
    weight = torch.randn(12, 20, 3, 3).contiguous(memory_format=torch.channels_last)
    bias = torch.randn(12) if with_bias else None
    exact = F.conv2d(x.double(), weight.double(), None if bias is None else bias.double())
    ours = winograd.conv3x3(x, weight, bias)
    assert ours.is_contiguous(memory_format=torch.channels_last)
    assert relative_error(ours, exact) < 5e-6  # measured 1e-6; F.conv2d itself 3e-7


@torch.inference_mode()
@pytest.mark.parametrize("padding_mode", ["zeros", "reflect"])
def test_conv3x3_keeps_its_border(padding_mode):
    torch.manual_seed(8)
    conv = Conv3x3(128, 128, padding_mode)
    conv.load_state_dict({"weight": randn(128, 128, 3, 3, scale=0.04), "bias": randn(128)})
    x = torch.randn(1, 128, 32, 36)
    assert winograd.is_faster(x, conv.weight)
    padded = F.pad(x.double(), (1, 1, 1, 1), mode="constant" if padding_mode == "zeros" else padding_mode)
    exact = F.conv2d(padded, conv.weight.double(), conv.bias.double())
    assert relative_error(conv(x), exact) < 5e-6


@torch.inference_mode()
def test_winograd_is_used_where_it_pays_only():
    weight = torch.empty(128, 128, 3, 3)
    assert winograd.is_faster(torch.empty(1, 128, 64, 64), weight)
    assert winograd.is_faster(torch.empty(2, 128, 32, 128), weight)
    assert not winograd.is_faster(torch.empty(1, 128, 64, 64, dtype=torch.bfloat16), weight)
    assert not winograd.is_faster(torch.empty(1, 128, 64, 64, device="meta"), weight)
    assert not winograd.is_faster(torch.empty(1, 128, 62, 64), weight)
    assert not winograd.is_faster(torch.empty(1, 128, 16, 16), weight)
    assert not winograd.is_faster(torch.empty(1, 128, 256, 256), weight)
    assert not winograd.is_faster(torch.empty(1, 128, 64, 64), weight[:, :64])
