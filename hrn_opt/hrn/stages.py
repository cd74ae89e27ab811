"""From aligned crops to the fitted texture: HRN's own part of the method, stage by stage, for a batch of faces."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from hrn_opt.geometry.sparse import SparseMap
from hrn_opt.hrn.shape.detail import detail_normals, high_displacement, mid_deformation, smooth_mask
from hrn_opt.hrn.shape.morphable import Coefficients, MorphableModel, Pose, pose_of, shade, to_camera
from hrn_opt.hrn.texture.fit import Rendering, fit_texture, rendering_of
from hrn_opt.hrn.texture.retouch import de_retouch
from hrn_opt.hrn.uv import OfficialUVRaster, unwrap


class Networks(Protocol):
    """The four networks of the texture path."""

    @property
    def recon(self) -> nn.Module: ...
    @property
    def de_retouch(self) -> nn.Module: ...
    @property
    def mid(self) -> nn.Module: ...
    @property
    def high(self) -> nn.Module: ...


@dataclass(frozen=True)
class Assets:
    """What the pack holds besides networks.

    uv: (N, 2) float32, v up.
    deform: reads a 64² map at every vertex.
    alpha, beta: (1,) trained gains.
    """

    morphable: MorphableModel
    grid: OfficialUVRaster
    deform: SparseMap
    uv: Tensor
    alpha: Tensor
    beta: Tensor


@dataclass(frozen=True)
class CoarseShape:
    """Low frequency: what the coefficients say.

    coefficients: (B, 257).
    shape: (B, N, 3) model's own frame.
    pose: into the viewer's frame.
    """

    coefficients: Tensor
    shape: Tensor
    pose: Pose


@dataclass(frozen=True)
class DetailedShape:
    """Mid and high frequency.

    vertices: (B, N, 3) deformed, viewer's frame.
    deformation: (B, 3, 64, 64).
    displacement: (B, 1, 256, 256).
    normals: (B, 3, 256, 256) of the displaced surface, viewer's frame.
    albedo: (B, 3, 256, 256) de-retouched.
    valid_mask: (B, 1, 256, 256) 0..1, how far the photo shows skin at each texel.
    """

    vertices: Tensor
    deformation: Tensor
    displacement: Tensor
    normals: Tensor
    albedo: Tensor
    valid_mask: Tensor


def coarse_shape(networks: Networks, assets: Assets, images: Tensor) -> CoarseShape:
    """images: (B, 3, 224, 224) RGB 0..1."""
    coefficients = networks.recon(images)
    parts = Coefficients.split(coefficients)
    return CoarseShape(coefficients, assets.morphable.shape(parts), pose_of(parts))


def detailed_shape(
    networks: Networks, assets: Assets, coarse: CoarseShape, detail_images: Tensor, skin: Tensor
) -> DetailedShape:
    """detail_images: (B, 3, 512, 512) RGB 0..1.
    skin: (B, 1, 224, 224) skin mask 0..1.
    """
    camera_map = assets.grid.interpolate(to_camera(coarse.pose.apply(coarse.shape)))
    position = assets.grid.interpolate(coarse.shape)
    texture = unwrap(camera_map, detail_images)
    valid_mask = smooth_mask(unwrap(camera_map, skin))
    albedo = de_retouch(
        networks.de_retouch, assets.morphable.albedo_map(Coefficients.split(coarse.coefficients)), texture
    )
    deformation = mid_deformation(networks.mid, assets.alpha, position, texture, valid_mask)
    shape = coarse.shape + _at_vertices(assets.deform, deformation)
    vertices = coarse.pose.apply(shape)
    texture = unwrap(assets.grid.interpolate(to_camera(vertices)), detail_images)
    displacement = high_displacement(networks.high, assets.beta, position, texture, deformation, valid_mask)
    vertex_normals = assets.morphable.normals(shape) @ coarse.pose.rotation
    surface = assets.grid.interpolate(torch.cat([vertices, vertex_normals], 2))  # (B, 6, 256, 256)
    normals = detail_normals(surface[:, :3], surface[:, 3:], displacement)
    return DetailedShape(vertices, deformation, displacement, normals, albedo, valid_mask)


@dataclass(frozen=True)
class Fitted:
    """texture: (B, 3, 256, 256) as published, RGB about 0..1, not clipped.
    renderings: of each face, at the crop.
    """

    texture: Tensor
    renderings: tuple[Rendering, ...]


def texture(assets: Assets, coarse: CoarseShape, detailed: DetailedShape, targets: Tensor) -> Fitted:
    """The shaded texture, fitted to the photo.

    targets: (B, 3, 224, 224) what the fit should meet.
    """
    light = Coefficients.split(coarse.coefficients).light
    colour = shade(detailed.normals.flatten(2), light).view_as(detailed.albedo) * detailed.albedo
    triangles = assets.morphable.triangles
    renderings = tuple(rendering_of(camera, triangles, assets.uv) for camera in to_camera(detailed.vertices))
    fitted = map(fit_texture, colour, targets, renderings)
    return Fitted(torch.stack(list(fitted)), renderings)


def _at_vertices(sampler: SparseMap, maps: Tensor) -> Tensor:
    """(B, N, C) of maps (B, C, h, w)."""
    return torch.stack([sampler(one.flatten(1).T.contiguous()) for one in maps])
