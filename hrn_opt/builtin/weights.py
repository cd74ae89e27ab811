"""The embedded networks, loaded from the weights that come with the package."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from safetensors.numpy import load
from torch import nn

from hrn_opt.builtin.networks import AttentionMesh, BlazeFace
from hrn_opt.errors import ModelDamaged, ModelMissing

WEIGHTS_PATH = Path(__file__).with_name("weights.safetensors")
# Printed by tools/convert_builtin.py, which also says where the weights come from.
WEIGHTS_SHA256 = "36854fd331e9ea216a4318cbc4d70d314fe83313b36cb5433b286a1d7277e309"

Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True)
class BuiltinNetworks:
    """The two networks: float32, channels_last, eval mode, no gradients."""

    detector: BlazeFace
    mesh: AttentionMesh

    def __post_init__(self) -> None:
        if any(network.training for network in (self.detector, self.mesh)):
            raise ValueError("the networks must be in eval mode")


def load_networks(path: Path = WEIGHTS_PATH, device: torch.device | str = "cpu") -> BuiltinNetworks:
    """The networks on `device`, from a file that must be the published one, byte for byte."""
    arrays = load(read_verified(path, WEIGHTS_SHA256))
    return BuiltinNetworks(
        _filled(BlazeFace, "detector", arrays, device),
        _filled(AttentionMesh, "mesh", arrays, device),
    )


def read_verified(path: Path, sha256: str) -> bytes:
    """What a file of the package holds; ModelMissing or ModelDamaged where it is not the one with that hash."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise ModelMissing(f"{path} is missing; install hrn_opt again.", model="builtin") from None
    except OSError as error:
        raise ModelDamaged(f"{path} cannot be read ({error.strerror}); install hrn_opt again.") from error
    if hashlib.sha256(content).hexdigest() != sha256:
        raise ModelDamaged(f"{path} is not the file that hrn_opt came with; install hrn_opt again.")
    return content


def _filled(
    network_class: type[Network], name: str, arrays: dict[str, np.ndarray], device: torch.device | str
) -> Network:
    """One network with its part of the weights."""
    prefix = f"{name}."
    # NumPy widens without waking torch's threads, which cost 50 ms here when the cores are busy.
    state = {
        key.removeprefix(prefix): torch.from_numpy(array.astype(np.float32))
        for key, array in arrays.items()
        if key.startswith(prefix)
    }
    network = network_class()
    network.load_state_dict(state, strict=True, assign=True)
    network.requires_grad_(False).eval()
    moved: Network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch omits it
    return moved
