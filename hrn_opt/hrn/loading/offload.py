"""The networks as a memory plan has them: read into memory, or brought to the device layer by layer by accelerate.

Offloaded layers are read straight from the prepared pack's file. Only `forward` brings weights in; whatever else is
called on an offloaded network computes on nothing. A network that is offloaded serves one thread at a time.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from hrn_opt.hrn import stages
from hrn_opt.hrn.align.skin_mask import SkinMask
from hrn_opt.hrn.find.faces import FindNetworks
from hrn_opt.hrn.loading.build import (
    TextureNetworks,
    load_box_regressor,
    load_fan,
    load_find_networks,
    load_skin_mask,
)
from hrn_opt.hrn.loading.memory_plan import (
    CPU,
    DISK,
    FAN,
    SKIN_MASK,
    MemoryPlan,
    accelerate_quiet,
    empty_networks,
)
from hrn_opt.hrn.pack.networks import FIND_NETWORKS, TEXTURE_NETWORKS, NetworkSpec
from hrn_opt.hrn.pack.prepared import PreparedPack
from hrn_opt.hrn.pack.published import MASK_GRAPH


def texture_networks(pack: PreparedPack, plan: MemoryPlan, precision: torch.dtype) -> stages.Networks:
    """The four networks of the texture path, ready to run on the plan's device."""
    if plan.is_resident(TEXTURE_NETWORKS):
        return TextureNetworks(pack, precision).to(plan.device)
    networks = dispatch(empty_networks(pack, TEXTURE_NETWORKS, precision), TEXTURE_NETWORKS, plan, pack)
    return cast("stages.Networks", networks)  # its keys are the protocol's names


def find_networks(pack: PreparedPack, plan: MemoryPlan) -> FindNetworks:
    """What finding faces needs, ready to run on the plan's device."""
    if plan.is_resident(FIND_NETWORKS) and plan.place_of(FAN) == str(plan.device):
        return load_find_networks(pack, plan.device, plan.faces_at_once)
    pack.need_detectors()
    networks = dispatch(empty_networks(pack, FIND_NETWORKS, torch.float32), FIND_NETWORKS, plan, pack)
    return FindNetworks(
        **networks, fan=_planned_fan(pack, plan), regressor=load_box_regressor(pack), faces_at_once=plan.faces_at_once
    )


def skin_mask(pack: PreparedPack, plan: MemoryPlan, offload_folder: str | os.PathLike[str] | None = None) -> SkinMask:
    """The route to a skin mask, its network as planned.

    offload_folder: as the plan was made with. It takes a copy of the mask's numbers, which lie in a graph that
    cannot be read layer by layer.
    """
    place = plan.place_of(SKIN_MASK)
    if place == str(plan.device):
        return load_skin_mask(pack, plan.device)
    mask = load_skin_mask(pack, torch.device(CPU))
    if mask.network is None:
        return mask
    import accelerate

    if place == CPU:
        accelerate.cpu_offload(mask.network, str(plan.device), offload_buffers=True)
        return mask
    assert offload_folder is not None  # without one, no plan puts the mask on the disk
    content = pack.manifest.sources[MASK_GRAPH]["sha256"]  # another pack's copy may lie in the same folder
    accelerate.disk_offload(
        mask.network, Path(offload_folder) / f"skin-mask-{content}", str(plan.device), offload_buffers=True
    )
    return mask


def dispatch(
    networks: nn.ModuleDict, specs: Mapping[str, NetworkSpec], plan: MemoryPlan, pack: PreparedPack
) -> nn.ModuleDict:
    """The same networks, empty before: each layer with its tensors, or hooked up to fetch them for its forward."""
    import accelerate

    resident, on_host, on_disk = {}, {}, {}
    for name, parameter in networks.named_parameters():
        place = plan.place_of(name)
        if place == DISK:
            # accelerate gives it the precision of the empty parameter whose place it takes
            on_disk[name] = {"safetensors_file": str(pack.tensors_path), "weight_name": name}
        elif place == str(plan.device):
            resident[name] = _laid_out(pack.tensor(name)).to(plan.device, parameter.dtype)
        else:
            on_host[name] = pack.tensor(name).to(parameter.dtype)  # float32 stays in the mapped file
    networks.load_state_dict(resident, strict=False, assign=True)
    networks.requires_grad_(False)
    with accelerate_quiet():
        accelerate.dispatch_model(
            networks,
            {name: place for name, place in plan.device_map.items() if name.partition(".")[0] in specs},
            main_device=str(plan.device),
            state_dict=on_host or None,
            offload_index=on_disk or None,
            offload_buffers=True,
            force_hooks=True,
        )
    return networks


def _laid_out(tensor: Tensor) -> Tensor:
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor


class VisitingFan(nn.Module):
    """3D-FAN, which waits in the host's memory and comes to the device for each call.

    TorchScript's layers cannot be hooked up one by one.
    """

    def __init__(self, pack: PreparedPack, device: torch.device):
        super().__init__()
        import accelerate

        self._fan, self._hook = accelerate.cpu_offload_with_hook(load_fan(pack, torch.device(CPU)), str(device))

    def forward(self, image: Tensor) -> Tensor | list[Tensor]:
        """As the archive's: image (B, 3, 256, 256), heatmaps on the device."""
        try:
            heatmaps: Tensor | list[Tensor] = self._fan(image)
            return heatmaps
        finally:
            self._hook.offload()


class ReadFan(nn.Module):
    """3D-FAN, which is read from its archive for each call and forgotten afterwards."""

    def __init__(self, pack: PreparedPack, device: torch.device):
        super().__init__()
        self._pack, self._device = pack, device

    def forward(self, image: Tensor) -> Tensor | list[Tensor]:
        """As the archive's: image (B, 3, 256, 256), heatmaps on the device."""
        heatmaps: Tensor | list[Tensor] = load_fan(self._pack, self._device)(image.to(self._device))
        return heatmaps


def _planned_fan(pack: PreparedPack, plan: MemoryPlan) -> nn.Module:
    place = plan.place_of(FAN)
    if place == str(plan.device):
        return load_fan(pack, plan.device)
    return ReadFan(pack, plan.device) if place == DISK else VisitingFan(pack, plan.device)
