"""The published stages, run on a CPU on a small pack: what test_stages.py holds ours against.

The published code rasterises the UV layout with PyTorch3D and renders with nvdiffrast, which need a compiler and CUDA.
Stand-ins answer for both: our own UV layout, which test_pytorch3d_uv.py pins, and the slow renderer of the unit tests.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import os
import sys
import types

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hrn_opt.hrn.exact.pytorch3d_uv import UVFragments
from tests.hrn.texture.reference_render import render_reference, sample_wrapped

NEEDS = ("addict", "cv2", "imageio", "kornia", "modelscope", "numba", "scipy", "skimage")
ROOT = "modelscope.models.cv.face_reconstruction"
INSTALL = "pip install -c constraints.txt -e '.[dev,oracle]'"


def need_official() -> None:
    """Skips where the published code cannot be imported; in CI, where it must be, fails instead."""
    missing = [name for name in NEEDS if importlib.util.find_spec(name) is None]
    if missing and os.environ.get("CI") == "true":
        pytest.fail(f"the published code needs {', '.join(missing)}: {INSTALL}")
    if missing:
        pytest.skip(f"the published code needs {', '.join(missing)}: {INSTALL}", allow_module_level=True)


def official_stages() -> types.SimpleNamespace:
    """utils, bfm, renderer, losses, nv_diffrast, retouch and model: the published modules, nvdiffrast stood in for."""
    need_official()
    names = {
        "utils": f"{ROOT}.utils",
        "bfm": f"{ROOT}.models.bfm",
        "renderer": f"{ROOT}.models.renderer",
        "losses": f"{ROOT}.models.losses",
        "nv_diffrast": f"{ROOT}.models.nv_diffrast",
        "retouch": f"{ROOT}.models.de_retouching_module",
        "model": f"{ROOT}.models.facerecon_model",
    }
    stand_in = types.ModuleType("nvdiffrast")
    stand_in.torch = types.ModuleType("nvdiffrast.torch")
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()):
        patch.setitem(sys.modules, "nvdiffrast", stand_in)
        patch.setitem(sys.modules, "nvdiffrast.torch", stand_in.torch)
        modules = {key: importlib.import_module(name) for key, name in names.items()}
    modules["nv_diffrast"].dr = _nvdiffrast()
    modules["nv_diffrast"].nvdiffrast = types.SimpleNamespace(__version__="0.3.3")
    return types.SimpleNamespace(**modules)


def face_model(official: types.SimpleNamespace, assets_folder: str, layout: UVFragments) -> nn.Module:
    """The published morphable model on a pack's assets, made by its own constructor."""
    stand_in_for_pytorch3d(official, layout)
    with contextlib.redirect_stdout(io.StringIO()):
        model = official.bfm.ParametricFaceModel(assets_folder)
    model.to(torch.device("cpu"))
    return model


def stand_in_for_pytorch3d(official: types.SimpleNamespace, layout: UVFragments) -> None:
    """Lets our own rasterised UV layout answer where the published modules would ask PyTorch3D."""
    for module in (official.bfm, official.renderer):
        module.set_rasterizer = lambda: None  # it imports PyTorch3D
    official.renderer.Meshes = lambda verts, faces: types.SimpleNamespace(verts=verts, faces=faces)
    official.renderer.rasterize_meshes = _uv_rasterizer(layout)


def whole_model(official: types.SimpleNamespace, face: nn.Module, networks, uv: Tensor, gains: tuple[Tensor, Tensor]):
    """The published model round given networks, without its constructor, which asks for CUDA and weights."""
    model = official.model.FaceReconModel.__new__(official.model.FaceReconModel)
    nn.Module.__init__(model)
    model.net_recon, model.mid_net, model.high_net = networks.recon, networks.mid, networks.high
    model.de_retouching_module = official.retouch.DeRetouchingModule.__new__(official.retouch.DeRetouchingModule)
    model.de_retouching_module.retouching_network = networks.de_retouch
    model.facemodel_front, model.bfm_UVs, model.device = face, uv, torch.device("cpu")
    model.alpha, model.beta = gains
    model.w_color, model.w_tex_smooth = 1.92, 10  # its constructor's defaults
    fov = 2 * np.arctan(112.0 / 1015.0) * 180 / np.pi
    model.renderer = official.nv_diffrast.MeshRenderer(rasterize_fov=fov, znear=5.0, zfar=15.0, rasterize_size=224)
    return model


def fitted(
    model, official: types.SimpleNamespace, colour: Tensor, vertex: Tensor, target: Tensor, steps: int
) -> Tensor:
    """(1, 3, 256, 256) colour plus offset: the published losses and renderer in their published loop."""
    triangles = model.facemodel_front.face_buf
    mask, _, _ = model.renderer.render_uv_texture(vertex, triangles, model.bfm_UVs.clone(), colour)
    offset = torch.zeros(1, 3, 256, 256, requires_grad=True)
    adam = torch.optim.Adam([offset], lr=1e-2)
    for _ in range(steps):
        _, _, face = model.renderer.render_uv_texture(vertex, triangles, model.bfm_UVs.clone(), colour + offset)
        loss = model.w_color * official.losses.photo_loss(face, target, mask)
        loss = loss + official.losses.TVLoss()(offset) * model.w_tex_smooth
        adam.zero_grad()
        loss.backward()
        adam.step()
    return (colour + offset).detach()


def _uv_rasterizer(layout: UVFragments):
    """PyTorch3D's rasterize_meshes on the one layout it is ever asked for."""

    def rasterize_meshes(meshes, image_size, **_):
        batch, faces = meshes.faces.shape[:2]
        triangle = torch.from_numpy(layout.triangle).long()[None, :, :, None]
        shift = torch.arange(batch)[:, None, None, None] * faces
        packed = torch.where(triangle < 0, -1, triangle + shift)
        weights = torch.from_numpy(layout.barycentric)[None, :, :, None].expand(batch, -1, -1, -1, -1)
        assert image_size == layout.triangle.shape[0]
        return packed, None, weights, None

    return rasterize_meshes


def _nvdiffrast() -> types.SimpleNamespace:
    """rasterize, interpolate and texture, as far as the published renderer uses them."""
    kept: dict[bytes, Tensor] = {}

    def rasterize(_, clip, triangles, resolution, **__):
        key = clip.detach().numpy().tobytes()
        if key not in kept:
            kept[key] = torch.stack([_rasterized(one, triangles.numpy(), resolution[0]) for one in clip.detach()])
        return kept[key], None

    def interpolate(values, seen, triangles, *_, **__):
        weights = torch.cat([seen[..., :2], 1 - seen[..., :2].sum(-1, keepdim=True)], -1)
        number = seen[..., 3].long() - 1
        corners = values[triangles.long()[number.clamp(min=0)]]  # (B, H, W, 3, C)
        return (weights[..., None] * corners).sum(-2) * (number >= 0)[..., None], None

    def texture(texture, uv, **_):
        sampled = [sample_wrapped(one, *at.flatten(0, 1).T) for one, at in zip(texture, uv, strict=True)]
        return torch.stack(sampled).view(*uv.shape[:3], -1)

    context = {"RasterizeCudaContext": lambda **_: None}
    return types.SimpleNamespace(rasterize=rasterize, interpolate=interpolate, texture=texture, **context)


def _rasterized(clip: Tensor, triangles: np.ndarray, size: int) -> Tensor:
    """(H, W, 4) of two barycentrics, depth (left out) and the triangle's number from 1."""
    x, y, z, w = clip.double().numpy().T
    corners = np.stack([(x / w + 1) * size / 2, (y / w + 1) * size / 2, z / w, w], 1)
    seen = render_reference(corners, triangles, size)
    columns = [seen.weights[..., 0], seen.weights[..., 1], np.zeros_like(seen.weights[..., 0]), seen.triangle + 1.0]
    return torch.from_numpy(np.stack(columns, -1)).float()
