"""The four networks of the texture path at full width against the published modules, random weights and statistics."""

import contextlib
import copy
import io
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from hrn_opt.hrn.networks import DeRetouchNet, DetailGenerator, ReconNet, generator, load_network, recon, unet

pytestmark = pytest.mark.oracle

# ‖ours − exact‖ / ‖exact‖, exact = the published module in float64. Measured (the published module in float32 itself):
# recon 2e-7 (2e-7), UNet 2e-7 (1e-7), generators 3e-6 and 9e-6 (1e-6: each of 23 instance norms amplifies).
FLOAT32_ERROR = {"recon": 2e-6, "unet": 2e-6, "mid": 2e-5, "high": 4e-5}
# Peak signal-to-noise of bfloat16, dB; only these two networks are run in it. Measured 66 and 43; the second output is
# scaled by 0.1 · beta before it moves anything.
BFLOAT16_PSNR = {"unet": 60.0, "high": 40.0}
# Every layer and every seam of the U-Net in a sixth of the time that its 512 × 512 take in float64.
UNET_SIZE_HW = (160, 256)
RANGE = {"unet": 1.0, "high": 2.0}  # outputs in 0..1 and -1..1


@dataclass(frozen=True)
class Pair:
    """A published network, ours with the same weights, and the size of its input."""

    published: nn.Module
    ours: nn.Module
    channels: int
    size_hw: tuple[int, int]

    def picture(self, batch: int) -> Tensor:
        """In 0..1, smooth with noise on it: a photo or a map, not white noise alone."""
        coarse = torch.rand(batch, self.channels, 9, 9)
        smooth = nn.functional.interpolate(coarse, self.size_hw, mode="bicubic", align_corners=True)
        return (smooth + 0.05 * torch.randn_like(smooth)).clamp(0, 1)


@pytest.fixture(scope="module")
def modules() -> dict[str, nn.Module]:
    """The published networks with seeded random weights."""
    root = "modelscope.models.cv.face_reconstruction.models"
    needs = [f"{root}.networks", f"{root}.unet", f"{root}.pix2pix.networks"]
    reason = "the published modules (modelscope, kornia) are not installed"
    networks, their_unet, pix2pix = (pytest.importorskip(name, reason=reason) for name in needs)
    torch.manual_seed(23)
    with contextlib.redirect_stdout(io.StringIO()):  # they announce their initialisation
        options = {"norm": "instance", "use_dropout": True}
        published = {
            "recon": networks.define_net_recon("resnet50", use_last_fc=False),
            "unet": their_unet.UNet(3, 3),
            "mid": pix2pix.define_G(6, 3, 64, "resnet_9blocks", **options),
            "high": pix2pix.define_G(9, 1, 64, "resnet_9blocks", **options),
        }
    return {name: randomised(network) for name, network in published.items()}


def randomised(network: nn.Module) -> nn.Module:
    """Statistics and biases as after a training, instead of zeros and ones."""
    for name, module in network.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.3, 1.5)
            nn.init.uniform_(module.weight, *((0.1, 0.3) if name.endswith("bn3") else (0.5, 1.0)))
            nn.init.normal_(module.bias, 0, 0.1)
        elif isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            if module.bias is not None:
                nn.init.normal_(module.bias, 0, 0.1)
            if "final_layers" in name:
                nn.init.normal_(module.weight, 0, 0.02)
    return network.eval().requires_grad_(False)


@pytest.fixture(params=["recon", "unet", "mid", "high"])
def name(request) -> str:
    return request.param


@pytest.fixture
def pair(name, modules) -> Pair:
    return make_pair(name, modules)


def make_pair(name: str, modules: dict[str, nn.Module]) -> Pair:
    module, network_class = {
        "recon": (recon, ReconNet),
        "unet": (unet, DeRetouchNet),
        "mid": (generator, DetailGenerator),
        "high": (generator, DetailGenerator),
    }[name]
    channels = {"recon": 3, "unet": 3, "mid": 6, "high": 9}[name]
    size_hw = {"recon": (224, 224), "unet": UNET_SIZE_HW, "mid": (64, 64), "high": (256, 256)}[name]
    tensors = module.from_official(modules[name].state_dict())
    return Pair(modules[name], load_network(network_class, tensors), channels, size_hw)


@torch.inference_mode()
def test_equals_the_published_network(name, pair):
    torch.manual_seed(31)
    picture = pair.picture(2) if name == "recon" else pair.picture(2) * 2 - 1
    exact = copy.deepcopy(pair.published).double()(picture.double())
    assert exact.std() > 0.01  # a constant output would prove nothing
    for batch in (1, 2):
        ours = pair.ours(picture[:batch])
        assert ours.shape == exact[:batch].shape and ours.dtype == torch.float32
        error = (ours - exact[:batch]).norm() / exact[:batch].norm()
        assert error < FLOAT32_ERROR[name]


@torch.inference_mode()
@pytest.mark.parametrize("half_name", ["unet", "high"])
def test_bfloat16_stays_close(half_name, modules):
    torch.manual_seed(37)
    pair = make_pair(half_name, modules)
    picture = pair.picture(1) * 2 - 1
    full = pair.ours(picture)
    half = pair.ours.to(torch.bfloat16)(picture)
    psnr_db = 10 * torch.log10(RANGE[half_name] ** 2 / (half - full).square().mean()).item()
    assert psnr_db > BFLOAT16_PSNR[half_name]


def test_leaves_out_what_inference_does_not_need(pair, name):
    """Half or less of the published keys remain, and no more numbers than the network has."""
    theirs, ours = pair.published.state_dict(), pair.ours.state_dict()
    assert len(ours) <= len(theirs) / 2 + 2
    assert sum(t.numel() for t in ours.values()) <= sum(t.numel() for t in theirs.values())
