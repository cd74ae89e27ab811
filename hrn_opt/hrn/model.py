"""HRN behind the protocol that the pipeline drives."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from hrn_opt.geometry.uv import UVRaster, rasterize_uv
from hrn_opt.hrn import stages
from hrn_opt.hrn.align.face_crop import Crops, align, to_unit
from hrn_opt.hrn.align.skin_mask import SkinMask
from hrn_opt.hrn.align.widening import widen_cheeks
from hrn_opt.hrn.batch import joined, one_of
from hrn_opt.hrn.find.faces import PIXEL_CENTRE, FindNetworks, WorkingPhoto, find_faces, working_photo
from hrn_opt.hrn.frames import UV_PX
from hrn_opt.hrn.loading import offload
from hrn_opt.hrn.loading.build import load_assets
from hrn_opt.hrn.loading.memory_plan import BASES, FAN_ACTIVATION_BYTES, MemoryPlan, plan_for
from hrn_opt.hrn.output.detail_maps import TexelMesh, detail_maps, texel_mesh
from hrn_opt.hrn.output.mesh import face_mesh, photo_camera
from hrn_opt.hrn.pack.prepared import PreparedPack
from hrn_opt.hrn.shape.morphable import Coefficients
from hrn_opt.hrn.texture.upsample import RASTER_PX, PhotoView, upsample_texture
from hrn_opt.machine import usable_cpus
from hrn_opt.types import Advice, Box, Camera, Face, Photo, Reconstruction, Request, UVTexture, Want

NAME = "hrn"
FACES_TOGETHER = 4  # through the texture's networks: each more than one takes up to 340 MB in float32


@dataclass(frozen=True)
class Aligned:
    """One face in the networks' frame.

    working: the photo that the crops were cut from.
    skin: (1, 1, 224, 224) 0..1.
    target: (1, 3, 224, 224) 0..1, what the texture fit should meet.
    mask_source: where the skin mask came from.
    """

    working: WorkingPhoto
    crops: Crops
    skin: Tensor
    target: Tensor
    mask_source: str


@dataclass(frozen=True)
class Shaped:
    aligned: Aligned
    coarse: stages.CoarseShape


@dataclass(frozen=True)
class Detailed:
    aligned: Aligned
    coarse: stages.CoarseShape
    detailed: stages.DetailedShape


@dataclass(frozen=True)
class TextureResult:
    """texture: as asked for.
    texture_256: (256, 256, 3) float32 RGB 0..1, as published, before clipping.
    """

    texture: UVTexture
    texture_256: Tensor


Finder = Callable[[Photo], tuple[Face, ...]]
_WITHOUT_DETECTORS = Advice(
    "WithoutDetectors",
    "HRN's pack has no detectors here: its texture is fitted without them, and landmarks that were not given are the "
    "embedded model's. The whole pack gives the published result.",
    {},
)


@dataclass(frozen=True)
class HrnModel:
    """The published method on one device."""

    pack: PreparedPack
    networks: stages.Networks
    assets: stages.Assets
    plan: MemoryPlan
    offload_folder: str | os.PathLike[str] | None = None
    finder: Finder | None = None

    name = NAME
    cpu_threads = min(torch.get_num_threads(), usable_cpus())  # its networks are large enough to share out
    extra_texture_sizes = (UV_PX,)
    has_detail = True
    takes_hints = True

    @classmethod
    def load(
        cls,
        pack: PreparedPack,
        device: torch.device,
        precision: torch.dtype,
        memory: str | float = "auto",
        offload_folder: str | os.PathLike[str] | None = None,
        finder: Finder | None = None,
    ) -> HrnModel:
        """memory: GiB of the device, or "auto".
        offload_folder: for what fits nowhere else.
        finder: finds faces, (68, 2) photo pixels their points, for a pack that has no detectors.
        """
        plan = plan_for(pack, device, precision, memory, offload_folder)
        assets = load_assets(pack, device, precision, torch.device(plan.place_of(BASES)))
        networks = offload.texture_networks(pack, plan, precision)
        return cls(pack, networks, assets, plan, offload_folder, None if pack.has_detectors else finder)

    @property
    def device(self) -> torch.device:
        return self.plan.device

    @cached_property
    def find_networks(self) -> FindNetworks:
        return offload.find_networks(self.pack, self.plan)

    @cached_property
    def skin_mask(self) -> SkinMask:
        return offload.skin_mask(self.pack, self.plan, self.offload_folder)

    @cached_property
    def uv_raster(self) -> UVRaster:
        """The pack's UV layout for sampling photos; the published one, of 256 px, is assets.grid."""
        return rasterize_uv(self.assets.uv.cpu(), self.assets.morphable.triangles.cpu(), RASTER_PX)

    @cached_property
    def texel_mesh(self) -> TexelMesh:
        return texel_mesh(self.assets.uv.cpu(), self.assets.morphable.triangles.cpu())

    @property
    def faces_at_once(self) -> int:
        """How many faces go through the texture's networks together. The plan counts its room in faces of 3D-FAN."""
        if not self.plan.reserved_bytes:
            return FACES_TOGETHER
        room_bytes = self.plan.faces_at_once * FAN_ACTIVATION_BYTES
        return min(FACES_TOGETHER, max(1, room_bytes // self.plan.reserved_bytes))

    def working_copy(self, photo: Photo) -> WorkingPhoto:
        return working_photo(photo.rgb)

    def find(self, working: WorkingPhoto) -> tuple[Face, ...]:
        """Every face, largest first; points are the 68 landmarks."""
        if self.finder is not None:
            return tuple(_enlarged(face, working) for face in self.finder(Photo(working.rgb)))
        found = find_faces(self.find_networks, working)
        return tuple(
            Face(working.box_to_photo(face.box), working.to_photo(face.points.double()), face.score) for face in found
        )

    def face_at(self, landmarks: Tensor) -> Face:
        low, high = landmarks.amin(0).tolist(), landmarks.amax(0).tolist()
        return Face(Box(*low, *high), landmarks, 1.0)

    def align(self, request: Request) -> Aligned:
        working: WorkingPhoto = request.working
        landmarks = working.from_photo(request.face.points.double())
        crops = align(working.rgb, landmarks, self.pack.tensor("align.lm3d"))
        skin, source = self._skin(request, crops, landmarks, working.size_hw)
        target = to_unit(self._target(request, crops))[None].to(self.device)
        return Aligned(working, crops, skin[None, None].to(self.device), target, source)

    def shape(self, request: Request, aligned: Aligned) -> Shaped:
        return self.shape_together([aligned])[0]

    def yaw_rad(self, shape: Shaped) -> float:
        return float(Coefficients.split(shape.coarse.coefficients).angles[0, 1])

    def detail(self, request: Request, shape: Shaped) -> Detailed:
        return self.detail_together([shape])[0]

    def shape_together(self, aligned: Sequence[Aligned]) -> list[Shaped]:
        images = torch.stack([face.crops.image for face in aligned]).to(self.device)  # (B, 3, 224, 224)
        coarse = stages.coarse_shape(self.networks, self.assets, images)
        return [Shaped(face, one_of(coarse, index)) for index, face in enumerate(aligned)]

    def detail_together(self, shapes: Sequence[Shaped]) -> list[Detailed]:
        images = torch.stack([face.aligned.crops.detail for face in shapes]).to(self.device)  # (B, 3, 512, 512)
        skin = torch.cat([face.aligned.skin for face in shapes])
        coarse = joined([face.coarse for face in shapes])
        detailed = stages.detailed_shape(self.networks, self.assets, coarse, images, skin)
        return [Detailed(face.aligned, face.coarse, one_of(detailed, index)) for index, face in enumerate(shapes)]

    def texture(self, request: Request, detail: Detailed) -> TextureResult:
        aligned, detailed = detail.aligned, detail.detailed
        fitted = stages.texture(self.assets, detail.coarse, detailed, aligned.target)
        colours, skin = fitted.texture[0].cpu(), detailed.valid_mask[0, 0].cpu()  # (3, 256, 256), (256, 256)
        texture_256 = colours.permute(1, 2, 0)
        if request.texture_size == UV_PX:
            return TextureResult(UVTexture(_to_bytes(texture_256), _to_bytes(skin)), texture_256)
        rendering = fitted.renderings[0]
        view = PhotoView(
            screen=rendering.screen.cpu(),
            fragments=rendering.fragments.cpu(),
            placement=aligned.crops.placement,
            photo_size_hw=aligned.working.photo_size_hw,
            facing=detailed.normals[0, 2].cpu(),  # orthographic: the viewer is ten face lengths away
            skin=skin,
        )
        triangles, uv = self.assets.morphable.triangles.cpu(), self.assets.uv.cpu()
        upsampled = upsample_texture(
            request.photo.rgb, view, triangles, uv, self.uv_raster, colours, request.texture_size
        )
        return TextureResult(upsampled, texture_256)

    def assemble(self, request: Request, detail: Detailed, texture: TextureResult) -> Reconstruction:
        with_mesh = request.want.level >= Want.MESH.level
        mesh = face_mesh(detail.detailed.vertices[0], self.assets) if with_mesh else None
        displacement = detail.detailed.displacement[0].cpu()
        with_detail = request.want.level >= Want.DETAIL.level
        return Reconstruction(
            model=self.name,
            photo_name=request.photo.name,
            face_index=request.face_index,
            face=request.face,
            texture=texture.texture,
            camera=_camera(detail.aligned),
            mesh=mesh,
            coefficients=detail.coarse.coefficients[0].cpu(),
            texture_256=texture.texture_256,
            deformation=detail.detailed.deformation[0].cpu(),
            displacement=displacement,
            mask_source=detail.aligned.mask_source,
            detail=detail_maps(mesh, displacement[0], self.texel_mesh) if mesh is not None and with_detail else None,
            advice=() if self.pack.has_detectors else (_WITHOUT_DETECTORS,),
        )

    def _skin(
        self, request: Request, crops: Crops, landmarks: Tensor, aligned_on: tuple[int, int]
    ) -> tuple[Tensor, str]:
        """(224, 224) 0..1 and where it came from."""
        if request.hints.skin_mask is not None:
            return request.hints.skin_mask, "caller"
        in_crop = crops.placement.from_photo(landmarks + PIXEL_CENTRE, aligned_on)
        result = self.skin_mask(torch.from_numpy(crops.rgb).to(self.device), in_crop)
        return result.values / 255, result.source

    def _target(self, request: Request, crops: Crops) -> np.ndarray:
        """(224, 224, 3) uint8: the crop, its face widened as the published fit wants it."""
        if request.hints.cheek_widening == 0 or not self.pack.has_detectors:  # which outline the cheeks
            return crops.rgb
        find = self.find_networks
        return widen_cheeks(find.retinaface, find.landmarks106, [crops.rgb], request.hints.cheek_widening)[0]


def _enlarged(face: Face, working: WorkingPhoto) -> Face:
    """A face found on the working photo, in photo pixels."""
    (height, width), (photo_height, photo_width) = working.size_hw, working.photo_size_hw
    scale = face.points.new_tensor([photo_width / width, photo_height / height])
    return Face(working.box_to_photo(face.box), face.points * scale, face.score)


def _camera(aligned: Aligned) -> Camera:
    return photo_camera(aligned.crops.placement, aligned.working)


def _to_bytes(values: Tensor) -> np.ndarray:
    """uint8 of values around 0..1, clipped."""
    return (values * 255).round().clamp(0, 255).byte().numpy()
