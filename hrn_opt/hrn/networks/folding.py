"""From published checkpoints to the tensors of our networks: every key and shape checked, batch norms folded away."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn

from hrn_opt.errors import PackDamaged, PackIncomplete

BATCH_NORM_EPS = 1e-5  # torch's default, which every published network keeps
Network = TypeVar("Network", bound=nn.Module)
Made = TypeVar("Made", bound=nn.Module, covariant=True)


class NetworkClass(Protocol[Made]):
    """A class whose networks are as wide as their tensors."""

    def sized_for(self, tensors: Mapping[str, Tensor]) -> Made: ...


@dataclass(frozen=True)
class ConvSource:
    """Where one of our convolutions comes from in a checkpoint, and how large it must be there.

    conv: name of the layer with the weight.
    norm: name of the batch norm behind it, if any.
    shape: of the weight, (out, in, height, width).
    bias: whether the convolution itself has one.
    """

    conv: str
    shape: tuple[int, int, int, int]
    norm: str | None = None
    bias: bool = True


def fold(state: Mapping[str, Tensor], sources: Mapping[str, ConvSource]) -> dict[str, Tensor]:
    """Our tensors `NAME.weight` and `NAME.bias`, float32, for every name of `sources`; other keys are ignored."""
    folded = {}
    for name, source in sources.items():
        weight = take(state, f"{source.conv}.weight", source.shape).double()
        channels = source.shape[:1]
        bias = take(state, f"{source.conv}.bias", channels).double() if source.bias else weight.new_zeros(channels)
        if source.norm is not None:
            scale, shift = _batch_norm(state, source.norm, channels)
            weight, bias = weight * scale.view(-1, 1, 1, 1), bias * scale + shift
        folded[f"{name}.weight"], folded[f"{name}.bias"] = weight.float(), bias.float()
    return folded


def _batch_norm(state: Mapping[str, Tensor], name: str, channels: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """A batch norm at inference as (scale, shift): y = scale · x + shift, float64."""
    gain, bias, mean, variance = (
        take(state, f"{name}.{part}", channels).double() for part in ("weight", "bias", "running_mean", "running_var")
    )
    if (variance < 0).any():
        raise PackDamaged(f"{name}.running_var holds a negative variance; download the pack again.")
    scale = gain / torch.sqrt(variance + BATCH_NORM_EPS)
    return scale, bias - mean * scale


def take(state: Mapping[str, Tensor], key: str, shape: tuple[int, ...]) -> Tensor:
    """The tensor `key`, checked: floating point, finite, of that shape."""
    tensor = _floats(state, key)
    if tuple(tensor.shape) != tuple(shape):
        raise PackDamaged(f"{key} has shape {tuple(tensor.shape)}, not {tuple(shape)}; download the pack again.")
    if not tensor.isfinite().all():
        raise PackDamaged(f"{key} holds values that are no numbers; download the pack again.")
    return tensor


def conv_size(state: Mapping[str, Tensor], key: str) -> tuple[int, int, int, int]:
    """The four sizes of the convolution weight `key`: what a checkpoint says about its network's width."""
    tensor = _floats(state, key)
    if tensor.ndim != 4:
        raise PackDamaged(f"{key} has {tensor.ndim} axes, not the 4 of a convolution; download the pack again.")
    out_channels, in_channels, height, width = tensor.shape
    return out_channels, in_channels, height, width


def _floats(state: Mapping[str, Tensor], key: str) -> Tensor:
    if key not in state:
        raise PackIncomplete(f"The checkpoint lacks {key}; download the pack again.")
    tensor = state[key]
    if not isinstance(tensor, Tensor) or not tensor.is_floating_point():
        raise PackDamaged(f"{key} is no tensor of floating-point numbers; download the pack again.")
    return tensor.detach()


def load_network(network_class: NetworkClass[Network], tensors: Mapping[str, Tensor], prefix: str = "") -> Network:
    """A network for inference that holds the very tensors given (no copy where they are channels_last already).

    tensors: from the class's module's `from_official`, their names after `prefix`; names without it are ignored.
    """
    own = {name.removeprefix(prefix): _channels_last(t) for name, t in tensors.items() if name.startswith(prefix)}
    with torch.device("meta"):
        network = network_class.sized_for(own)
    try:
        network.load_state_dict(own, strict=True, assign=True)
    except RuntimeError as error:
        raise PackDamaged(f"The tensors under {prefix!r} do not make a {type(network).__name__}: {error}") from error
    return network.eval().requires_grad_(False)


def _channels_last(tensor: Tensor) -> Tensor:
    """The tensor itself where its layout will do, as that of every 1×1 weight does; Module.to would copy those."""
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor
