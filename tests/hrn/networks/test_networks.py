"""HRN's networks, narrow ones, against the published layers written out in torch functions over the published keys.

tests/oracle/test_networks.py holds the full-size networks against the published modules themselves.
"""

from dataclasses import dataclass
from types import ModuleType

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.testing import assert_close

from hrn_opt.errors import PackDamaged, PackIncomplete
from hrn_opt.hrn.networks import (
    DeRetouchNet,
    DetailGenerator,
    ReconNet,
    generator,
    load_network,
    recon,
    unet,
)
from tests.hrn.networks.seeded import WIDTH, randn, relative_error

# Sums in another order through up to 53 layers; measured 2e-7 (recon, UNet) and 2e-6 (generator, whose instance norms
# amplify) of the output's size.
ROUNDING = {"recon": 2e-6, "unet": 2e-6, "generator": 2e-5}


# Eight and eleven bits of mantissa through the same layers; measured 0.8 to 1.4 % and 0.1 to 0.2 %.
HALF_ROUNDING = {torch.bfloat16: 0.05, torch.float16: 0.01}


def conv_state(name: str, shape: tuple[int, ...], bias: bool) -> dict[str, Tensor]:
    fan_in = shape[1] * shape[2] * shape[3]
    state = {f"{name}.weight": randn(*shape, scale=(2 / fan_in) ** 0.5)}
    return state | ({f"{name}.bias": randn(shape[0], scale=0.1)} if bias else {})


def norm_state(name: str, channels: int) -> dict[str, Tensor]:
    """A batch norm whose smallest variances are of its epsilon's size, so that a lost epsilon shows."""
    variance = torch.rand(channels) + 0.5
    variance[0] = 1e-5
    gain = torch.rand(channels) * 0.5 + 0.5
    gain[0] = 2e-3
    parts = {"weight": gain, "bias": randn(channels, scale=0.1), "running_mean": randn(channels, scale=0.1)}
    return {f"{name}.{part}": tensor for part, tensor in (parts | {"running_var": variance}).items()}


def recon_state() -> dict[str, Tensor]:
    state = conv_state("backbone.conv1", (WIDTH, 3, 7, 7), False) | norm_state("backbone.bn1", WIDTH)
    channels = WIDTH
    for stage, blocks in enumerate((3, 4, 6, 3), start=1):
        inner = WIDTH * 2 ** (stage - 1)
        for block in range(blocks):
            name = f"backbone.layer{stage}.{block}"
            shapes = [(inner, channels, 1, 1), (inner, inner, 3, 3), (4 * inner, inner, 1, 1)]
            for index, shape in enumerate(shapes, start=1):
                state |= conv_state(f"{name}.conv{index}", shape, False) | norm_state(f"{name}.bn{index}", shape[0])
            state[f"{name}.bn3.weight"] *= 0.3  # else sixteen shortcuts add up to overflow of half precision
            if block == 0:
                state |= conv_state(f"{name}.downsample.0", (4 * inner, channels, 1, 1), False)
                state |= norm_state(f"{name}.downsample.1", 4 * inner)
            channels = 4 * inner
    for index, size in enumerate((80, 64, 80, 3, 27, 2, 1)):
        state |= conv_state(f"final_layers.{index}", (size, channels, 1, 1), True)
    return state


def unet_state() -> dict[str, Tensor]:
    w = WIDTH
    levels = {"inc.conv": (3, w), "down1.mpconv.1": (w, 2 * w), "down2.mpconv.1": (2 * w, 4 * w)}
    levels |= {"down3.mpconv.1": (4 * w, 8 * w), "down4.mpconv.1": (8 * w, 8 * w), "up1.conv": (16 * w, 4 * w)}
    levels |= {"up2.conv": (8 * w, 2 * w), "up3.conv": (4 * w, w), "up4.conv": (2 * w, w)}
    state = {}
    for name, (channels, out) in levels.items():
        for index, inputs in ((0, channels), (3, out)):
            state |= conv_state(f"{name}.conv.{index}", (out, inputs, 3, 3), True)
            state |= norm_state(f"{name}.conv.{index + 1}", out)
    return state | conv_state("outc.conv", (3, w, 1, 1), True)


def generator_state() -> dict[str, Tensor]:
    w = WIDTH
    state = conv_state("model.1", (w, 9, 7, 7), True) | conv_state("model.4", (2 * w, w, 3, 3), True)
    state |= conv_state("model.7", (4 * w, 2 * w, 3, 3), True)
    for block in range(10, 19):
        for index in (1, 6):
            state |= conv_state(f"model.{block}.conv_block.{index}", (4 * w, 4 * w, 3, 3), True)
    for name, (inputs, out) in {"model.19": (4 * w, 2 * w), "model.22": (2 * w, w)}.items():
        state |= {f"{name}.weight": randn(inputs, out, 3, 3, scale=0.2), f"{name}.bias": randn(out)}
    return state | conv_state("model.26", (2, w, 7, 7), True)


class Published:
    """The published layers as functions over a published state dict."""

    def __init__(self, state: dict[str, Tensor]):
        self.state = {key: tensor.double() for key, tensor in state.items()}

    def conv(self, name: str, x: Tensor, stride: int = 1, padding: int = 0) -> Tensor:
        return F.conv2d(x, self.state[f"{name}.weight"], self.state.get(f"{name}.bias"), stride, padding)

    def norm(self, name: str, x: Tensor) -> Tensor:
        parts = (self.state[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(x, *parts, training=False, eps=1e-5)

    def recon(self, x: Tensor) -> Tensor:
        x = self.norm("backbone.bn1", self.conv("backbone.conv1", x, 2, 3)).relu()
        x = F.max_pool2d(x, 3, 2, 1)
        for stage, blocks in enumerate((3, 4, 6, 3), start=1):
            for block in range(blocks):
                name, stride = f"backbone.layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
                y = self.norm(f"{name}.bn1", self.conv(f"{name}.conv1", x)).relu()
                y = self.norm(f"{name}.bn2", self.conv(f"{name}.conv2", y, stride, 1)).relu()
                y = self.norm(f"{name}.bn3", self.conv(f"{name}.conv3", y))
                if block == 0:
                    x = self.norm(f"{name}.downsample.1", self.conv(f"{name}.downsample.0", x, stride))
                x = (x + y).relu()
        x = F.adaptive_avg_pool2d(x, 1)
        return torch.cat([self.conv(f"final_layers.{index}", x) for index in range(7)], dim=1).flatten(1)

    def unet(self, x: Tensor) -> Tensor:
        def level(name: str, y: Tensor) -> Tensor:
            for index in (0, 3):
                y = self.norm(f"{name}.conv.{index + 1}", self.conv(f"{name}.conv.{index}", y, padding=1)).relu()
            return y

        kept = [level("inc.conv", x)]
        for index in range(1, 5):
            kept.append(level(f"down{index}.mpconv.1", F.max_pool2d(kept[-1], 2)))
        y = kept.pop()
        for index in range(1, 5):
            y = F.interpolate(y, scale_factor=2, mode="bilinear", align_corners=True)
            y = level(f"up{index}.conv", torch.cat([kept.pop(), y], dim=1))
        return self.conv("outc.conv", y).sigmoid()

    def generator(self, x: Tensor) -> Tensor:
        def reflect(y: Tensor, by: int) -> Tensor:
            return F.pad(y, (by,) * 4, mode="reflect")

        x = F.instance_norm(self.conv("model.1", reflect(x, 3))).relu()
        for name in ("model.4", "model.7"):
            x = F.instance_norm(self.conv(name, x, 2, 1)).relu()
        for block in range(10, 19):
            name = f"model.{block}.conv_block"
            y = F.instance_norm(self.conv(f"{name}.1", reflect(x, 1))).relu()
            x = x + F.instance_norm(self.conv(f"{name}.6", reflect(y, 1)))
        for name in ("model.19", "model.22"):
            weight, bias = self.state[f"{name}.weight"], self.state[f"{name}.bias"]
            x = F.instance_norm(F.conv_transpose2d(x, weight, bias, 2, 1, 1)).relu()
        return self.conv("model.26", reflect(x, 3)).tanh()


@dataclass(frozen=True)
class Case:
    """One network: our module and class, a published state dict for it, an input of unequal sizes."""

    name: str
    module: ModuleType
    network_class: type
    state: dict[str, Tensor]
    picture: Tensor

    def network(self) -> torch.nn.Module:
        return load_network(self.network_class, self.module.from_official(self.state))

    def published(self) -> Tensor:
        return getattr(Published(self.state), self.name)(self.picture.double())


def make_case(name: str) -> Case:
    torch.manual_seed(5)
    if name == "recon":
        return Case(name, recon, ReconNet, recon_state(), torch.rand(2, 3, 96, 64))
    if name == "unet":
        return Case(name, unet, DeRetouchNet, unet_state(), torch.rand(2, 3, 48, 32) * 2 - 1)
    return Case(name, generator, DetailGenerator, generator_state(), torch.rand(2, 9, 48, 32) * 2 - 1)


@pytest.fixture(params=["recon", "unet", "generator"])
def case(request) -> Case:
    return make_case(request.param)


@torch.inference_mode()
def test_equals_the_published_layers(case):
    ours = case.network()(case.picture)
    theirs = case.published()
    assert ours.shape == theirs.shape and ours.dtype == torch.float32
    assert relative_error(ours, theirs) < ROUNDING[case.name]


@torch.inference_mode()
def test_pictures_of_a_batch_do_not_meet(case):
    network = case.network()
    alone = torch.cat([network(picture) for picture in case.picture.split(1)])
    assert_close(network(case.picture), alone, rtol=1e-4, atol=1e-5)  # kernels differ by batch size


@torch.inference_mode()
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_inside_float32_outside(case, dtype):
    half = case.network().to(dtype)(case.picture)
    assert half.dtype == torch.float32
    assert relative_error(half, case.published()) < HALF_ROUNDING[dtype]


@torch.inference_mode()
def test_leaves_its_input_alone(case):
    before = case.picture.clone()
    case.network()(case.picture.contiguous(memory_format=torch.channels_last))
    assert torch.equal(case.picture, before)


@torch.inference_mode()
def test_offloaded_weights_give_the_same(case):
    accelerate = pytest.importorskip("accelerate")
    network = case.network()
    resident = network(case.picture)
    offloaded = accelerate.cpu_offload(network, execution_device=torch.device("cpu"))
    assert all(parameter.device.type == "meta" for parameter in offloaded.parameters())
    assert_close(offloaded(case.picture), resident, rtol=0, atol=1e-6)  # weights may come back in another layout


def test_runs_without_weights(case):
    """On "meta", as a planner of memory does."""
    with torch.device("meta"):
        network = case.network_class.sized_for(case.module.from_official(case.state))
        output = network(torch.empty(case.picture.shape))
    assert output.device.type == "meta" and output.shape == case.published().shape


def test_every_needed_key_is_asked_for(case):
    """Without any one key the pack is incomplete; only biases in front of an instance norm are not needed."""
    for key in case.state:
        lacking = {other: tensor for other, tensor in case.state.items() if other != key}
        if case.name == "generator" and key.endswith("bias") and key != "model.26.bias":
            case.module.from_official(lacking)
            continue
        with pytest.raises(PackIncomplete, match=key.replace(".", r"\.")):
            case.module.from_official(lacking)


def test_every_shape_is_checked(case):
    for key, tensor in case.state.items():
        if case.name == "generator" and key.endswith("bias") and key != "model.26.bias":
            continue
        longer = torch.cat([tensor, tensor[-1:]])
        with pytest.raises(PackDamaged):
            case.module.from_official(case.state | {key: longer})


def test_foreign_values_are_refused(case):
    key = next(iter(case.state))
    shape = case.state[key].shape
    for wrong in ("text", torch.ones(shape, dtype=torch.int64), torch.full(shape, torch.nan), torch.ones(3)):
        with pytest.raises(PackDamaged, match=key.replace(".", r"\.")):
            case.module.from_official(case.state | {key: wrong})


def test_negative_variance_is_refused():
    state = unet_state()
    state["inc.conv.conv.1.running_var"] = -state["inc.conv.conv.1.running_var"]
    with pytest.raises(PackDamaged, match="running_var"):
        unet.from_official(state)


def test_extra_keys_are_ignored_and_nothing_is_modified(case):
    extra = {"optimizer.step": torch.ones(()), "backbone.bn1.num_batches_tracked": torch.ones((), dtype=torch.int64)}
    before = {key: tensor.clone() for key, tensor in case.state.items()}
    plain, extended = case.module.from_official(case.state), case.module.from_official(case.state | extra)
    assert plain.keys() == extended.keys()
    assert all(torch.equal(before[key], case.state[key]) for key in before)
    assert all(tensor.dtype == torch.float32 for tensor in plain.values())


def test_loading_is_strict_and_takes_a_prefix(case):
    tensors = case.module.from_official(case.state)
    prefixed = {f"net.{name}": tensor for name, tensor in tensors.items()} | {"other.weight": torch.ones(1)}
    network = load_network(case.network_class, prefixed, "net.")
    assert not network.training and not any(parameter.requires_grad for parameter in network.parameters())
    assert all(parameter.device.type == "cpu" for parameter in network.parameters())
    last = list(tensors)[-1]
    with pytest.raises(PackDamaged, match=last.replace(".", r"\.")):
        load_network(case.network_class, {name: tensor for name, tensor in tensors.items() if name != last})


def test_loading_copies_nothing_that_lies_right(case):
    tensors = {
        name: tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor
        for name, tensor in case.module.from_official(case.state).items()
    }
    held = dict(load_network(case.network_class, tensors).named_parameters())
    assert all(held[name].data_ptr() == tensor.data_ptr() for name, tensor in tensors.items())


def test_unet_refuses_sizes_it_cannot_halve():
    with pytest.raises(ValueError, match="multiples of 16"):
        make_case("unet").network()(torch.zeros(1, 3, 48, 40))
