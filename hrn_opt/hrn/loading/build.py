"""A prepared pack turned into what the stages need: networks in their precision, assets on their device."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hrn_opt.hrn.align.skin_mask import SkinMask
from hrn_opt.hrn.find.faces import FACES_AT_ONCE, FindNetworks
from hrn_opt.hrn.find.landmarks import BoxRegressor
from hrn_opt.hrn.networks import generator, landmarks106, recon, retinaface, s3fd, unet
from hrn_opt.hrn.networks.folding import load_network
from hrn_opt.hrn.pack.prepared import PreparedPack
from hrn_opt.hrn.shape.detail import MID_PX
from hrn_opt.hrn.shape.morphable import MorphableModel
from hrn_opt.hrn.stages import Assets
from hrn_opt.hrn.uv import OfficialUVRaster, vertex_sampler


class TextureNetworks(nn.Module):
    """The four networks of the texture path; forward is each one's only entry point."""

    def __init__(self, pack: PreparedPack):
        super().__init__()
        self.recon = load_network(recon.ReconNet, pack.tensors("recon"))
        self.de_retouch = load_network(unet.DeRetouchNet, pack.tensors("deretouch"))
        self.mid = load_network(generator.DetailGenerator, pack.tensors("mid"))
        self.high = load_network(generator.DetailGenerator, pack.tensors("high"))

    def cast_large_networks(self, precision: torch.dtype) -> TextureNetworks:
        """The same with the de-retouching and the high network in `precision`.

        The other two stay float32: in half precision they would move vertices by 1.7e-3 dm to save a twentieth of
        the time.
        """
        self.de_retouch.to(precision)
        self.high.to(precision)
        return self


def load_find_networks(pack: PreparedPack, device: torch.device, faces_at_once: int = FACES_AT_ONCE) -> FindNetworks:
    """What finding faces needs, float32; PackIncomplete when the pack was made without detectors."""
    pack.need_detectors()
    return FindNetworks(
        retinaface=load_network(retinaface.RetinaFace, pack.tensors("retinaface")).to(device),
        landmarks106=load_network(landmarks106.Landmarks106, pack.tensors("landmarks106")).to(device),
        s3fd=load_network(s3fd.S3FD, pack.tensors("s3fd")).to(device),
        fan=load_fan(pack, device),
        regressor=load_box_regressor(pack),
        faces_at_once=faces_at_once,
    )


def load_fan(pack: PreparedPack, device: torch.device) -> nn.Module:
    """3D-FAN, as its TorchScript archive has it."""
    fan: nn.Module = torch.jit.load(pack.fan_path, map_location=device)
    return fan.eval()


def load_box_regressor(pack: PreparedPack) -> BoxRegressor:
    return BoxRegressor(*(pack.tensor(f"bbox.{name}").numpy() for name in ("W1", "B1", "W2", "B2")))


def load_skin_mask(pack: PreparedPack, device: torch.device) -> SkinMask:
    """The best route to a skin mask that the pack and the machine allow."""
    mask = SkinMask.open(pack.folder)
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
        deform=vertex_sampler(uv, MID_PX),
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
