"""Which of HRN's parts lie on the device within a budget, and which wait in the host's memory or on the disk.

Fullest first: everything on the device; the morphable model's two bases on the host, which multiplies them there in
12 ms; accelerate's device map for the networks' layers, 3D-FAN and the skin mask coming over whole, when needed.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from hrn_opt.errors import OptionInvalid
from hrn_opt.hrn.find.faces import FACES_AT_ONCE
from hrn_opt.hrn.networks.landmarks106 import Landmarks106
from hrn_opt.hrn.pack.networks import NETWORKS, TEXTURE_NETWORKS, NetworkSpec
from hrn_opt.hrn.pack.prepared import PreparedPack
from hrn_opt.machine import free_memory_bytes

GIB = 1 << 30
CPU, DISK = "cpu", "disk"
BASES, FAN, SKIN_MASK = "bases", "fan", "skin_mask"  # what a plan places besides networks
BASES_TENSORS = ("bfm.mean_shape", "bfm.shape_basis", "bfm.albedo_mean", "bfm.albedo_basis")

# Bytes that one face's stages take besides networks and bases. Measured on the CPU with every live tensor counted:
# 18 MB at the details, 41 MB at the texture, when no network runs; the smaller assets are 8 MB.
STAGES_BYTES = 32_000_000
# What the libraries allocate for themselves. cuBLAS keeps 32 MiB on the largest devices; the rest is for the
# convolutions' workspaces, an allowance and not a measurement.
LIBRARIES_BYTES = 96 << 20
# On a CPU oneDNN's own copies, what glibc's heap keeps, and torch's compiler, which accelerate's hooks import (70 MB):
# 350 MiB measured in float32, 210 MiB in bfloat16.
CPU_LIBRARIES_BYTES = 352 << 20
# 3D-FAN holds about twelve maps of 256 × 64² float32 at its hourglass's waist, and half as much in the stem.
FAN_ACTIVATION_BYTES = 64_000_000
# The published mask's graph is not known beforehand; a U-Net with 64 channels at 224² holds twelve such maps.
MASK_ACTIVATION_BYTES = 160_000_000
# Layers with numbers of their own beside layers in them: accelerate would leave those numbers without a device.
WHOLE_CLASSES = (Landmarks106.__name__,)


@dataclass(frozen=True)
class MemoryPlan:
    """Where everything lies between two calls; it all runs on `device`, but for the bases, which stay where they are.

    device_map: network or layer → the device, "cpu" or "disk"; so for "bases", "fan" and "skin_mask".
    reserved_bytes: kept free on the device for activations.
    faces_at_once: through the networks that find faces.
    """

    device: torch.device
    device_map: Mapping[str, str]
    reserved_bytes: int
    faces_at_once: int = FACES_AT_ONCE

    def __post_init__(self) -> None:
        wrong = set(self.device_map.values()) - {str(self.device), CPU, DISK}
        if wrong:
            raise ValueError(f"MemoryPlan.device_map names {sorted(wrong)}")

    @property
    def kind(self) -> str:
        """ "resident", "cpu offload" or "disk offload"."""
        places = {self.place_of(name) for name in self.device_map}
        return "disk offload" if DISK in places else "cpu offload" if places != {str(self.device)} else "resident"

    def place_of(self, name: str) -> str:
        """Where the part, layer or parameter of that name lies."""
        while name not in self.device_map:
            name, dot, _ = name.rpartition(".")
            if not dot:
                raise KeyError(name)
        return self.device_map[name]

    def is_resident(self, names: Mapping[str, NetworkSpec]) -> bool:
        """Whether those networks lie on the device whole."""
        return all(self.device_map.get(name) == str(self.device) for name in names)


@dataclass(frozen=True)
class Parts:
    """What is to be placed: networks (on "meta" will do) in their precision, and the bytes of the other parts."""

    networks: nn.ModuleDict
    bases_bytes: int = 0
    fan_bytes: int = 0
    skin_mask_bytes: int = 0

    @property
    def networks_bytes(self) -> int:
        return sum(parameter.nbytes for parameter in self.networks.parameters())

    @property
    def whole_bytes(self) -> int:
        """Of the two networks that only move whole."""
        return self.fan_bytes + self.skin_mask_bytes

    @property
    def largest_layer_bytes(self) -> int:
        """Of the largest layer that comes to the device by itself."""
        whole = [module for module in self.networks.modules() if type(module).__name__ in WHOLE_CLASSES]
        layers = whole + [module for module in self.networks.modules() if not list(module.children())]
        return max(sum(parameter.nbytes for parameter in layer.parameters()) for layer in layers)

    @property
    def activation_bytes(self) -> int:
        """Of the most demanding stage."""
        stages: list[int] = [
            math.ceil(NETWORKS[name].activation_bytes * next(network.parameters()).itemsize / 4)
            for name, network in self.networks.items()
        ]
        if self.fan_bytes:
            stages.append(FAN_ACTIVATION_BYTES)
        if self.skin_mask_bytes:
            stages.append(MASK_ACTIVATION_BYTES)
        return max(stages)

    @property
    def visiting_bytes(self) -> int:
        """The same where 3D-FAN and the skin mask come to the device for their calls."""
        fan, mask = self.fan_bytes + FAN_ACTIVATION_BYTES, self.skin_mask_bytes + MASK_ACTIVATION_BYTES
        return max(self.activation_bytes, fan if self.fan_bytes else 0, mask if self.skin_mask_bytes else 0)


def parse_budget(memory: str | float) -> int | None:
    """Bytes of a budget in GiB, a number or one written out; None for "auto"."""
    if isinstance(memory, str) and memory.strip().lower() == "auto":
        return None
    try:
        gib = float(memory)
    except (TypeError, ValueError):
        gib = math.nan
    if isinstance(memory, bool) or not math.isfinite(gib) or gib <= 0:
        raise OptionInvalid(f"memory={memory!r} is no budget; use 'auto' or a number of GiB above 0, such as 0.5.")
    return int(gib * GIB)


def plan_for(
    pack: PreparedPack,
    device: torch.device,
    precision: torch.dtype,
    memory: str | float,
    offload_folder: str | os.PathLike[str] | None = None,
) -> MemoryPlan:
    """The plan for a pack; "auto" takes what is free on the device, and on a CPU keeps everything in memory."""
    budget_bytes = parse_budget(memory)
    if budget_bytes is None and device.type == CPU:
        return _resident(device, 0, FACES_AT_ONCE, bases=CPU)
    if budget_bytes is None:
        budget_bytes = torch.accelerator.get_memory_info(device)[0]
    return plan_memory(parts_of(pack, device, precision), device, budget_bytes, offload_folder=offload_folder)


def parts_of(pack: PreparedPack, device: torch.device, precision: torch.dtype) -> Parts:
    """Everything of a pack that may use the device."""
    specs = NETWORKS if pack.has_detectors else TEXTURE_NETWORKS
    bases_bytes = sum(pack.tensor(name).nbytes for name in BASES_TENSORS)
    albedo = pack.tensor(BASES_TENSORS[-1])
    albedo_bytes = albedo.numel() * precision.itemsize
    if device.type == CPU:  # what is still in the mapped file takes no memory that anybody else would miss
        bases_bytes = albedo_bytes if albedo.dtype != precision else 0
    else:
        bases_bytes += albedo_bytes - albedo.nbytes
    return Parts(
        empty_networks(pack, specs, precision),
        bases_bytes=bases_bytes,
        fan_bytes=pack.fan_path.stat().st_size if pack.fan_path and pack.has_detectors else 0,
        skin_mask_bytes=pack.mask_path.stat().st_size if pack.mask_path else 0,
    )


def empty_networks(pack: PreparedPack, specs: Mapping[str, NetworkSpec], precision: torch.dtype) -> nn.ModuleDict:
    """The networks on "meta", sized for the pack, in their precision."""
    with torch.device("meta"):
        networks = {name: spec.network_class.sized_for(pack.tensors(name)) for name, spec in specs.items()}
    for name, spec in specs.items():
        networks[name].to(precision if spec.large else torch.float32)
    return nn.ModuleDict(networks).eval().requires_grad_(False)


def plan_memory(
    parts: Parts,
    device: torch.device,
    budget_bytes: int,
    *,
    host_bytes: int | None = None,
    offload_folder: str | os.PathLike[str] | None = None,
) -> MemoryPlan:
    """The fullest plan within `budget_bytes` of the device; OptionInvalid when there is none.

    host_bytes: that offloaded networks may take of the host's memory; None for what is free of it. On a CPU, whose
    memory is the device's, they take none.
    offload_folder: where the skin mask may go once that is used up.
    """
    if device.type == CPU:
        room, host_bytes = budget_bytes - STAGES_BYTES - CPU_LIBRARIES_BYTES - parts.bases_bytes, 0
    else:
        room = budget_bytes - STAGES_BYTES - LIBRARIES_BYTES
    spare = room - parts.networks_bytes - parts.whole_bytes - parts.activation_bytes
    if spare >= 0:
        bases_on_device = device.type == CPU or spare >= parts.bases_bytes
        spare -= parts.bases_bytes if bases_on_device and device.type != CPU else 0
        faces = _faces(parts.activation_bytes + spare)
        return _resident(device, parts.activation_bytes, faces, bases=str(device) if bases_on_device else CPU)
    host_bytes = free_memory_bytes() if host_bytes is None else host_bytes
    fan = CPU if host_bytes > parts.whole_bytes else DISK
    skin_mask = DISK if fan == DISK and offload_folder is not None else CPU
    if device.type == CPU and skin_mask == CPU:
        room -= parts.skin_mask_bytes
    reserved = parts.visiting_bytes
    if room < reserved + parts.largest_layer_bytes:
        least = budget_bytes + reserved + parts.largest_layer_bytes - room
        raise OptionInvalid(
            f"memory={budget_bytes / GIB:.3g} GiB is too little for these networks; the least possible is "
            f"{math.ceil(least / GIB * 100) / 100:.2f}."
        )
    device_map = _accelerate_map(parts.networks, device, room - reserved, host_bytes - parts.whole_bytes)
    device_map |= {FAN: fan, SKIN_MASK: skin_mask, BASES: CPU}
    return MemoryPlan(device, device_map, reserved, _faces(reserved - parts.fan_bytes))


def _resident(device: torch.device, reserved_bytes: int, faces: int, bases: str) -> MemoryPlan:
    names = [*NETWORKS, FAN, SKIN_MASK]
    return MemoryPlan(device, dict.fromkeys(names, str(device)) | {BASES: bases}, reserved_bytes, faces)


def device_key(device: torch.device) -> int | str:
    """How accelerate's plans call the device: accelerators by number, whatever they are."""
    return device.type if device.type in (CPU, "mps") else 0


def _accelerate_map(
    networks: nn.ModuleDict, device: torch.device, device_bytes: int, host_bytes: int
) -> dict[str, str]:
    """Layer → place, with room for the largest layer left on the device."""
    from accelerate import infer_auto_device_map  # 0.14 s that only offloading pays

    key = device_key(device)
    most = {CPU: max(0, host_bytes)} | {key: device_bytes}
    with accelerate_quiet():
        found = infer_auto_device_map(networks, most, no_split_module_classes=list(WHOLE_CLASSES))
    if "" in found:  # how accelerate says that everything lies in one place
        found = dict.fromkeys(networks, found[""])
    return {name: str(device) if place == key else place for name, place in found.items()}


@contextmanager
def accelerate_quiet() -> Iterator[None]:
    """accelerate warns of what is intended here: layers away from the device, plans for a device that is elsewhere."""
    logger = logging.getLogger("accelerate")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _faces(activation_bytes: int) -> int:
    """Faces that may go through the networks that find them at once; 3D-FAN needs the most for each."""
    return max(1, min(FACES_AT_ONCE, activation_bytes // FAN_ACTIVATION_BYTES))
