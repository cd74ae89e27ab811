"""The baseline: the published model class of the modelscope package, unmodified, and the steps away from it.

Where nvdiffrast and PyTorch3D cannot run, stand-ins answer for them, each faster than what it stands for; `stand_ins`
names them. The steps replace one part each by ours, so that every optimisation can be timed and checked alone.
Everything here changes modules for good: use it in a process of its own.
"""

from __future__ import annotations

import contextlib
import enum
import importlib.util
import io
import os
import sys
import types
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from hrn_opt.geometry.raster import rasterize
from hrn_opt.hrn.align.face_crop import FACE_SCALE_PX, align
from hrn_opt.hrn.exact.pytorch3d_uv import uv_fragments
from hrn_opt.hrn.frames import DETAIL_CROP_PX, UV_PX
from hrn_opt.hrn.loading import offload
from hrn_opt.hrn.loading.memory_plan import plan_for
from hrn_opt.hrn.pack.prepared import PreparedPack
from hrn_opt.hrn.pack.published import WEIGHTS
from hrn_opt.hrn.texture.fit import fit_texture, rendering_of

# What the published code imports beyond this project's requirements: the extras dev and oracle.
NEEDS = ("addict", "cv2", "imageio", "kornia", "modelscope", "numba", "scipy", "skimage")
PACKAGE = "modelscope.models.cv.face_reconstruction"

NVDIFFRAST_STAND_IN = "nvdiffrast's renderer by this project's own rasteriser"
PYTORCH3D_STAND_IN = "PyTorch3D's rasteriser by its one answer to the one layout it is asked for, kept"

# What torch's own reader is told to let pass: plain NumPy numbers among a checkpoint's leftovers.
_HARMLESS_GLOBALS: list[Any] = [
    *((np.float64(0).__reduce__()[0], f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
    *((np.zeros(0).__reduce__()[0], f"numpy.{core}.multiarray._reconstruct") for core in ("core", "_core")),
    np.ndarray,
    np.dtype,
    *(type(np.dtype(name)) for name in ("f4", "f8", "i4", "i8", "bool")),
]


class Step(enum.Enum):
    """What is replaced, in the order of the ladder. The values say what changes."""

    TEXTURE_ONLY = "no previews, no turntable, no normals: what the texture does not need"
    CROP = "the two crops alone instead of resizing the whole photo twice; the same pixels"
    RASTER_ONCE = "one rasterisation of the mesh that stands still during the fit"
    SPARSE_FIT = "the fit as two fixed sparse maps with the gradient written down, one kernel for Adam"
    NETWORKS = "batch norms folded, channels last, Winograd where it pays"


def missing_needs() -> tuple[str, ...]:
    """Packages that the published code needs and this environment lacks."""
    return tuple(name for name in NEEDS if importlib.util.find_spec(name) is None)


class OfficialModel:
    """FaceReconModel on a published pack.

    steps: which parts are ours.
    prepared: the same pack, prepared; the layout's stand-in and our networks come from there.
    uv_calls: rasterisations of the UV layout so far.
    """

    def __init__(self, published: Path, prepared: PreparedPack, device: torch.device, steps: frozenset[Step]):
        self.steps, self.device, self.uv_calls = steps, device, 0
        self.stand_ins: list[str] = []
        self._modules = self._import()
        if PYTORCH3D_STAND_IN in self.stand_ins:
            self._stand_in_for_pytorch3d(published, prepared)
        with contextlib.redirect_stdout(io.StringIO()):
            self.model = self._load(published)
        self._standard = self._modules.utils.load_lm3d(str(published / "assets"))
        if Step.NETWORKS in steps:
            self._use_our_networks(prepared)

    def texture(self, photo_rgb: np.ndarray, landmarks: np.ndarray, skin: np.ndarray) -> dict[str, np.ndarray]:
        """texture: (256, 256, 3) float32 RGB 0..1, not clipped.

        vertices: (N, 3), viewer's frame.

        photo_rgb: uint8.
        landmarks: (68, 2), y down.
        skin: (224, 224) 0..1. The fit's target is the plain crop.
        """
        data = self._aligned(photo_rgb, landmarks)
        data["face_mask"] = torch.from_numpy(skin).float()[None, None]
        with contextlib.redirect_stdout(io.StringIO()):
            return self._texture_only(data) if Step.TEXTURE_ONLY in self.steps else self._whole(data)

    def _whole(self, data: dict[str, Tensor]) -> dict[str, np.ndarray]:
        model = self.model
        with torch.no_grad():
            model.set_input_base(data)
            base = model.predict_results_base()
            model.set_input_hrn({**base, "input_img_for_tex": base["input_img"]})
            model.get_edge_points_horizontal()
            model(visualize=True)
            saved = model.save_results_hrn()
        rgb = np.ascontiguousarray(saved["texture_map"][..., ::-1]) / 255
        return {"texture": rgb.astype(np.float32), "vertices": saved["face_mesh"]["vertices"]}

    def _texture_only(self, data: dict[str, Tensor]) -> dict[str, np.ndarray]:
        """`visualize=False` leaves out the mask's smoothing and the fit, too: they are done here as published."""
        model = self.model
        with torch.no_grad():
            model.set_input_base(data)
            base = model.predict_results_base()
            smoothed = model.smooth_valid_mask(base["tex_valid_mask"]).view(1, 1, UV_PX, UV_PX)
            inputs = {**base, "tex_valid_mask": smoothed, "input_img_for_tex": base["input_img"]}
            model.set_input_hrn(inputs)
            model.forward(visualize=False)
        fit = self._sparse_fit if Step.SPARSE_FIT in self.steps else self._published_fit
        vertices = model.pred_vertex[0].detach().clone()
        vertices[:, 2] = 10 - vertices[:, 2]
        return {"texture": fit()[0].permute(1, 2, 0).cpu().numpy(), "vertices": vertices.cpu().numpy()}

    def _published_fit(self) -> Tensor:
        """(1, 3, 256, 256) by the published renderer and losses, in the published loop."""
        model, losses = self.model, self._modules.losses
        colour, vertex, triangles = model.pred_color_high.detach(), model.pred_vertex, model.facemodel_front.face_buf
        offset = torch.zeros_like(colour, requires_grad=True)
        adam = torch.optim.Adam([offset], lr=1e-2)
        smoothness = losses.TVLoss()
        for _ in range(model.tex_iters):
            _, _, face = model.renderer.render_uv_texture(vertex, triangles, model.bfm_UVs.clone(), colour + offset)
            loss = model.w_color * losses.photo_loss(face, model.input_img_for_tex, model.pred_mask)
            loss = loss + smoothness(offset) * model.w_tex_smooth
            adam.zero_grad()
            loss.backward()
            adam.step()
        return (colour + offset).detach()

    def _sparse_fit(self) -> Tensor:
        model = self.model
        with torch.inference_mode():
            rendering = rendering_of(model.pred_vertex[0], model.facemodel_front.face_buf, model.bfm_UVs)
            return fit_texture(model.pred_color_high[0], model.input_img_for_tex[0], rendering)[None]

    def _aligned(self, photo_rgb: np.ndarray, landmarks: np.ndarray) -> dict[str, Tensor]:
        """imgs: (1, 3, 224, 224), imgs_hd: (1, 3, 512, 512), 0..1; lms, lms_hd: (1, 68, 2), y up."""
        points = landmarks.copy()
        points[:, 1] = photo_rgb.shape[0] - 1 - points[:, 1]
        picture = Image.fromarray(photo_rgb)
        if Step.CROP in self.steps:
            crops = align(photo_rgb, torch.from_numpy(landmarks), torch.from_numpy(self._standard))
            no_points = torch.zeros(1, 68, 2)  # only previews draw them
            return {"imgs": crops.image[None], "imgs_hd": crops.detail[None], "lms": no_points, "lms_hd": no_points}
        align_img = self._modules.utils.align_img
        _, small, small_points, _ = align_img(picture, points, self._standard)
        scale = FACE_SCALE_PX * DETAIL_CROP_PX / 224
        _, large, large_points, _ = align_img(
            picture, points, self._standard, target_size=DETAIL_CROP_PX, rescale_factor=scale
        )
        return {
            "imgs": _to_tensor(small),
            "imgs_hd": _to_tensor(large),
            "lms": torch.tensor(small_points)[None],
            "lms_hd": torch.tensor(large_points)[None],
        }

    def _import(self) -> SimpleNamespace:
        os.environ.setdefault("NUMBA_NUM_THREADS", str(os.cpu_count() or 1))
        renderer_here = importlib.util.find_spec("nvdiffrast") is not None and self.device.type == "cuda"
        if not renderer_here:
            self.stand_ins.append(NVDIFFRAST_STAND_IN)
            stand_in = _nvdiffrast(keeps=Step.RASTER_ONCE in self.steps)
            sys.modules["nvdiffrast"], sys.modules["nvdiffrast.torch"] = stand_in, stand_in.torch
        if importlib.util.find_spec("pytorch3d") is None:
            self.stand_ins.append(PYTORCH3D_STAND_IN)
        names = {"utils": "utils", "bfm": "models.bfm", "renderer": "models.renderer", "losses": "models.losses"}
        names["model"] = "models.facerecon_model"
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            return SimpleNamespace(**{key: importlib.import_module(f"{PACKAGE}.{n}") for key, n in names.items()})

    def _stand_in_for_pytorch3d(self, published: Path, prepared: PreparedPack) -> None:
        uv, faces = np.load(published / "assets" / "bfm_uvs2.npy"), prepared.tensor("uv.faces").numpy()
        layout = uv_fragments(uv, faces, UV_PX)
        triangle = torch.from_numpy(layout.triangle).long()[None, :, :, None].to(self.device)
        weights = torch.from_numpy(layout.barycentric)[None, :, :, None].to(self.device)

        def rasterize_meshes(_meshes, image_size: int, **_):
            if image_size != UV_PX:
                raise ValueError(f"the kept layout is of {UV_PX} px, not {image_size}")
            self.uv_calls += 1
            return triangle, None, weights, None

        self._modules.bfm.set_rasterizer = lambda: None
        self._modules.renderer.Meshes = lambda verts, faces: None
        self._modules.renderer.rasterize_meshes = rasterize_meshes

    def _load(self, published: Path) -> nn.Module:
        """As the published pipeline loads it; its constructor sends one network to CUDA, which only a GPU can take."""
        to = nn.Module.to
        if self.device.type == "cpu":
            nn.Module.to = lambda module, *where, **how: module if where == ("cuda",) else to(module, *where, **how)
        try:
            model = self._modules.model.FaceReconModel(str(published))
        finally:
            nn.Module.to = to
        model.set_device(self.device)
        with torch.serialization.safe_globals(_HARMLESS_GLOBALS):  # the published torch loaded these without asking
            model.setup(str(published / WEIGHTS))
        model.parallelize()
        model.eval()
        model.set_render(image_res=512)
        return model

    def _use_our_networks(self, prepared: PreparedPack) -> None:
        plan = plan_for(prepared, self.device, torch.float32, "auto", None)
        ours = offload.texture_networks(prepared, plan, torch.float32)
        self.model.net_recon, self.model.mid_net, self.model.high_net = ours.recon, ours.mid, ours.high
        self.model.de_retouching_module.retouching_network = ours.de_retouch


def _to_tensor(picture: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(picture) / 255.0).float().permute(2, 0, 1)[None]


def _nvdiffrast(keeps: bool) -> types.ModuleType:
    """rasterize, interpolate and texture, as far as the published renderer uses them.

    keeps: whether the last rasterisation answers again when the same vertices come.
    """
    kept: dict[str, Tensor] = {}

    def rasterize_clip(_context, clip: Tensor, triangles: Tensor, resolution, **_):
        if keeps and "clip" in kept and torch.equal(kept["clip"], clip):
            return kept["seen"], None
        seen = torch.stack([_rasterized(one, triangles.long(), resolution[0]) for one in clip.detach()])
        kept.update(clip=clip.detach().clone(), seen=seen)
        return seen, None

    module = types.ModuleType("nvdiffrast")
    module.torch = types.ModuleType("nvdiffrast.torch")
    module.__version__ = "0.3.3"
    module.torch.RasterizeCudaContext = module.torch.RasterizeGLContext = lambda **_: None
    module.torch.rasterize, module.torch.interpolate, module.torch.texture = rasterize_clip, _interpolated, _sampled
    return module


def _rasterized(clip: Tensor, triangles: Tensor, size: int) -> Tensor:
    """(H, W, 4) of two barycentrics on the triangle itself, depth, and the triangle's number from 1."""
    distance = clip[:, 3]
    points = torch.stack([*((clip[:, axis] / distance + 1) * size / 2 for axis in (0, 1)), clip[:, 2] / distance], 1)
    seen = rasterize(points, triangles, (size, size))
    shown = seen.covered & (seen.depth.abs() <= 1)
    weights = seen.barycentric / distance[triangles[seen.triangle.clamp(min=0)]]
    weights = weights / weights.sum(-1, keepdim=True)
    columns = [weights[..., 0], weights[..., 1], seen.depth, seen.triangle + 1.0]
    return torch.stack([torch.where(shown, column, 0) for column in columns], -1)


def _interpolated(values: Tensor, seen: Tensor, triangles: Tensor, *_, **__):
    """(B, H, W, C) of values (B, N, C) or (N, C)."""
    number = seen[..., 3].long() - 1
    corners = triangles.long()[number.clamp(min=0)]  # (B, H, W, 3)
    weights = torch.stack([seen[..., 0], seen[..., 1], 1 - seen[..., 0] - seen[..., 1]], -1)
    values = values if values.ndim == 3 else values[None]
    taken = torch.stack([own[at] for own, at in zip(values.expand(len(seen), -1, -1), corners, strict=True)])
    return (taken * weights[..., None]).sum(-2) * (number >= 0)[..., None], None


def _sampled(texture: Tensor, uv: Tensor, **_) -> Tensor:
    """(B, H, W, C) bilinear values of a texture that repeats itself, texel centres at half numbers."""
    height, width = texture.shape[1:3]
    x, y = uv[..., 0] * width - 0.5, uv[..., 1] * height - 0.5
    left, top = x.floor(), y.floor()
    across, down = (x - left)[..., None], (y - top)[..., None]
    batch = torch.arange(len(texture), device=texture.device)[:, None, None]

    def at(row: int, column: int) -> Tensor:
        return texture[batch, (top.long() + row) % height, (left.long() + column) % width]

    upper = at(0, 0) * (1 - across) + at(0, 1) * across
    lower = at(1, 0) * (1 - across) + at(1, 1) * across
    return upper * (1 - down) + lower * down
