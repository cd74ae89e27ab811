"""A prepared pack turned into what the stages need: networks in their precision, assets on their device."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from hrn_opt.hrn.align.skin_mask import SkinMask
from hrn_opt.hrn.find.faces import FACES_AT_ONCE, FindNetworks
from hrn_opt.hrn.find.landmarks import BoxRegressor
from hrn_opt.hrn.frames import DEFORMATION_PX
from hrn_opt.hrn.networks.folding import load_network
from hrn_opt.hrn.pack.manifest import MASK, ONNX_MASK
from hrn_opt.hrn.pack.networks import FIND_NETWORKS, NETWORKS
from hrn_opt.hrn.pack.prepared import PreparedPack
from hrn_opt.hrn.pack.published import MASK_GRAPH
from hrn_opt.hrn.shape.morphable import MorphableModel
from hrn_opt.hrn.stages import Assets
from hrn_opt.hrn.uv import OfficialUVRaster, vertex_sampler


class TextureNetworks(nn.Module):
    """The four networks of the texture path; forward is each one's only entry point.

    precision: of the large ones; the others stay float32.
    """

    def __init__(self, pack: PreparedPack, precision: torch.dtype = torch.float32):
        super().__init__()
        self.recon = _loaded("recon", pack, precision)
        self.de_retouch = _loaded("de_retouch", pack, precision)
        self.mid = _loaded("mid", pack, precision)
        self.high = _loaded("high", pack, precision)


def _loaded(name: str, pack: PreparedPack, precision: torch.dtype = torch.float32) -> nn.Module:
    spec = NETWORKS[name]
    network: nn.Module = load_network(spec.network_class, pack.tensors(name))
    return network.to(precision) if spec.large else network


def load_find_networks(pack: PreparedPack, device: torch.device, faces_at_once: int = FACES_AT_ONCE) -> FindNetworks:
    """What finding faces needs, float32; PackIncomplete when the pack was made without detectors."""
    pack.need_detectors()
    networks: dict[str, Any] = {name: _loaded(name, pack).to(device) for name in FIND_NETWORKS}
    return FindNetworks(
        **networks, fan=load_fan(pack, device), regressor=load_box_regressor(pack), faces_at_once=faces_at_once
    )


def load_fan(pack: PreparedPack, device: torch.device) -> nn.Module:
    """3D-FAN, as its TorchScript archive has it."""
    fan: nn.Module = torch.jit.load(pack.fan_path, map_location=device)
    return fan.eval()


def load_box_regressor(pack: PreparedPack) -> BoxRegressor:
    return BoxRegressor(*(pack.tensor(f"bbox.{name}").numpy() for name in ("W1", "B1", "W2", "B2")))


def open_skin_mask(pack: PreparedPack) -> SkinMask:
    """The best route to a skin mask that the pack and this installation allow, on the CPU."""
    return SkinMask.open(pack.folder / MASK, pack.folder / ONNX_MASK, pack.manifest.notes.get(MASK_GRAPH, ""))


def load_skin_mask(pack: PreparedPack, device: torch.device) -> SkinMask:
    """The best route to a skin mask that the pack and the machine allow."""
    mask = open_skin_mask(pack)
    if mask.network is not None:
        mask.network.to(device)
    return mask


def load_assets(
    pack: PreparedPack, device: torch.device, precision: torch.dtype, bases_device: torch.device | None = None
) -> Assets:
    """The morphable model, the UV layout and the trained gains; precision is the albedo basis's alone.

    bases_device: where the two bases lie and are multiplied; None for `device`.
    """
    bases_device = bases_device or device
    uv = pack.tensor("uv.coordinates").to(device)
    morphable = MorphableModel(
        mean_shape=pack.tensor("bfm.mean_shape").flatten().to(bases_device),
        shape_basis=pack.tensor("bfm.shape_basis").to(bases_device),
        albedo_mean=pack.tensor("bfm.albedo_mean").to(bases_device),
        albedo_basis=pack.tensor("bfm.albedo_basis").to(bases_device, precision),
        triangles=pack.tensor("bfm.triangles").long().to(device),
        point_faces=pack.tensor("bfm.point_faces").long().to(device),
    )
    return Assets(
        morphable=morphable,
        grid=_grid(pack, device),
        deform=vertex_sampler(uv, DEFORMATION_PX),
        uv=uv,
        alpha=pack.tensor("alpha").to(device),
        beta=pack.tensor("beta").to(device),
    )


def _grid(pack: PreparedPack, device: torch.device) -> OfficialUVRaster:
    triangle = pack.tensor("uv.pixel_triangle").flatten().long()
    texels = (triangle >= 0).nonzero().squeeze(1)
    corners: Tensor = pack.tensor("uv.faces")[triangle[texels]].long()
    weights = pack.tensor("uv.barycentric").view(-1, 3)[texels]
    return OfficialUVRaster(corners.to(device), weights.to(device), texels.to(device))
