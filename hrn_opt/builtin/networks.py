"""The embedded model's two networks, as plain modules.

Layers and formulas: MediaPipe's face_detection and face_landmark modules (Apache-2.0). All of them run best with
channels_last weights; every forward takes any batch size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hrn_opt.builtin import points

DETECTOR_INPUT_PX = 256
MESH_INPUT_PX = 192
CROP_CELLS = 16  # a region's crop of the feature map is 16×16 cells
CROP_UNITS = 64  # region heads answer in 64ths of the crop's side
CROP_MARGIN = 1.5  # crop side over the extent of the region's points


@dataclass(frozen=True)
class RawDetections:
    """What BlazeFace says about its 896 anchors; `anchors.anchor_centres()` has the same order.

    regressors: (B, 896, 16) float32, pixels of the 256 px input, relative to the anchor's centre: box centre (x, y),
    box (width, height), then (x, y) of the left eye, right eye, nose tip, mouth, left ear and right ear (the picture's
    left and right).
    logits: (B, 896) float32; sigmoid gives the score.
    """

    regressors: Tensor
    logits: Tensor

    def __post_init__(self) -> None:
        if self.regressors.shape != (*self.logits.shape, 16):
            raise ValueError(f"need (B, A, 16) and (B, A), got {self.regressors.shape} and {self.logits.shape}")


@dataclass(frozen=True)
class MeshPoints:
    """The points of one face a crop.

    points: (B, 478, 3) float32, pixels of the 192 px crop, pixel centres at +0.5; z has x's scale, negative is nearer.
    presence: (B,) float32, probability 0..1 that the crop shows a face.
    """

    points: Tensor
    presence: Tensor

    def __post_init__(self) -> None:
        if self.points.shape[0] != self.presence.shape[0] or self.points.shape[2] != 3:
            raise ValueError(f"need (B, K, 3) and (B,), got {self.points.shape} and {self.presence.shape}")


class Conv(nn.Conv2d):
    """A convolution whose weights are always loaded: random ones would cost half the loading time."""

    def reset_parameters(self) -> None:
        pass


class SameConv(Conv):
    """A convolution with TensorFlow's SAME padding for even inputs: at stride 2 the odd row goes right and bottom."""

    def __init__(self, channels: int, out_channels: int, kernel: int, stride: int = 1, groups: int = 1):
        padding = kernel // 2 if stride == 1 else 0
        super().__init__(channels, out_channels, kernel, stride, padding, groups=groups)
        before = (kernel - 2) // 2
        self.edges = (before, kernel - 2 - before) * 2 if stride == 2 else None  # (left, right, top, bottom)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x if self.edges is None else F.pad(x, self.edges))


class Residual(nn.Module):
    """Depthwise 3×3, pointwise, shortcut, activation; `groups` such blocks lie side by side in the channels.

    At stride 2 the shortcut is max-pooled; when the channels grow it feeds the first ones of each group.
    """

    def __init__(self, channels: int, growth: int = 1, stride: int = 1, groups: int = 1, prelu: bool = True):
        super().__init__()
        self.stride, self.growth, self.groups = stride, growth, groups
        self.depthwise = SameConv(channels, channels, 3, stride, groups=channels)
        self.pointwise = Conv(channels, channels * growth, 1, groups=groups)
        self.activation = nn.PReLU(channels * growth) if prelu else nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        mixed = self.pointwise(self.depthwise(x))
        shortcut = F.max_pool2d(x, 2) if self.stride == 2 else x
        if self.growth == 1:
            mixed += shortcut  # in place: a fresh tensor costs more than the sum
        else:
            per_group = shortcut.unflatten(1, (self.groups, -1))  # (B, G, C, H, W)
            mixed.unflatten(1, (self.groups, -1))[:, :, : per_group.shape[2]] += per_group
        activated: Tensor = self.activation(mixed)
        return activated


def residuals(channels: int, count: int, **options: Any) -> list[nn.Module]:
    """`count` blocks that keep size and channels."""
    return [Residual(channels, **options) for _ in range(count)]


def narrow(channels: int, out_channels: int, groups: int = 1) -> list[nn.Module]:
    """The neck before a head: fewer channels, then one more block."""
    neck = Conv(channels * groups, out_channels * groups, 1, groups=groups)
    return [neck, nn.PReLU(out_channels * groups), Residual(out_channels * groups, groups=groups)]


class BlazeFace(nn.Module):
    """The "back" face detector, for faces from 0.04 to 0.9 of the picture."""

    def __init__(self) -> None:
        super().__init__()
        layers = [SameConv(3, 24, 5, stride=2), nn.ReLU(), *residuals(24, 7, prelu=False)]
        for channels, growth in ((24, 1), (24, 2), (48, 2)):
            layers.append(Residual(channels, growth, stride=2, prelu=False))
            layers.extend(residuals(channels * growth, 7, prelu=False))
        self.trunk = nn.Sequential(*layers)
        self.down = nn.Sequential(SameConv(96, 96, 3, stride=2, groups=96), Conv(96, 96, 1), nn.ReLU())
        self.logits_16 = Conv(96, 2, 1)
        self.logits_8 = Conv(96, 6, 1)
        self.regressors_16 = Conv(96, 2 * 16, 1)
        self.regressors_8 = Conv(96, 6 * 16, 1)

    def forward(self, image: Tensor) -> RawDetections:
        """image: (B, 3, 256, 256) float32 RGB in -1..1."""
        fine = self.trunk(image.contiguous(memory_format=torch.channels_last))  # (B, 96, 16, 16)
        coarse = self.down(fine)  # (B, 96, 8, 8)
        logits = [_per_anchor(self.logits_16(fine), 1), _per_anchor(self.logits_8(coarse), 1)]
        regressors = [_per_anchor(self.regressors_16(fine), 16), _per_anchor(self.regressors_8(coarse), 16)]
        return RawDetections(torch.cat(regressors, dim=1), torch.cat(logits, dim=1).squeeze(2))


def _per_anchor(grid: Tensor, values: int) -> Tensor:
    """(B, H·W·anchors, values) from (B, anchors·values, H, W), row by row."""
    return grid.permute(0, 2, 3, 1).reshape(grid.shape[0], -1, values)


def _mesh_stem() -> nn.Sequential:
    """(B, 3, 192, 192) → (B, 32, 48, 48)."""
    return nn.Sequential(SameConv(3, 16, 3, stride=2), nn.PReLU(16), *residuals(16, 2), Residual(16, 2, stride=2))


def _mesh_trunk() -> nn.Sequential:
    """(B, 32, 48, 48) → (B, 128, 6, 6)."""
    layers = [*residuals(32, 2), Residual(32, 2, stride=2), *residuals(64, 2), Residual(64, 2, stride=2)]
    return nn.Sequential(*layers, *residuals(128, 2), Residual(128, stride=2), *residuals(128, 2))


def _mesh_neck() -> nn.Sequential:
    """(B, 128, 6, 6) → (B, 32, 3, 3)."""
    return nn.Sequential(Residual(128, stride=2), *residuals(128, 2), *narrow(128, 32))


class AttentionMesh(nn.Module):
    """The mesh with lips, eyes and irises looked at a second time: 478 points.

    The first look's points say where to crop the feature map for each region; five small heads, run side by side as
    groups of one network, place the region's points inside its crop.
    """

    HEAD_INDICES = (points.LIPS, points.LEFT_EYE, points.LEFT_IRIS, points.RIGHT_EYE, points.RIGHT_IRIS)
    HEAD_REGIONS = (0, 1, 1, 2, 2)  # the crop each head looks at: 0 lips, 1 left eye, 2 right eye

    region_indices: Tensor
    region_corners: Tensor
    rims: Tensor
    head_regions: Tensor
    merge_indices: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.trunk, self.neck = _mesh_stem(), _mesh_trunk(), _mesh_neck()
        self.points = Conv(32, points.MESH_COUNT * 3, 3)
        self.presence = Conv(32, 1, 3)
        self.region_trunk = nn.Sequential(
            *residuals(3 * 32, 2, groups=3),
            Residual(3 * 32, 2, stride=2, groups=3),
            *residuals(3 * 64, 2, groups=3),
            Residual(3 * 64, 2, stride=2, groups=3),
        )
        self.region_neck = nn.Sequential(
            *residuals(5 * 128, 2, groups=5),
            Residual(5 * 128, stride=2, groups=5),
            *residuals(5 * 128, 2, groups=5),
            *narrow(128, 32, groups=5),
        )
        self.region_points = nn.ModuleList(Conv(32, 2 * len(indices), 2) for indices in self.HEAD_INDICES)
        self._add_tables()

    def _add_tables(self) -> None:
        """Index tables, as buffers so that they follow the weights' device."""
        regions = [points.LIPS, points.LEFT_EYE, points.RIGHT_EYE]
        longest = max(len(region) for region in regions)
        tables = {
            # A repeated point changes no extent, so it pads the shorter regions.
            "region_indices": [region + region[:1] * (longest - len(region)) for region in regions],
            "region_corners": [points.LIP_CORNERS, points.LEFT_EYE_CORNERS, points.RIGHT_EYE_CORNERS],
            "rims": [points.LEFT_EYE_RIM, points.RIGHT_EYE_RIM],
            "head_regions": self.HEAD_REGIONS,
            "merge_indices": _merge_indices(self.HEAD_INDICES),
        }
        for name, table in tables.items():
            self.register_buffer(name, torch.tensor(table), persistent=False)

    def forward(self, image: Tensor) -> MeshPoints:
        """image: (B, 3, 192, 192) float32 RGB in 0..1."""
        features = self.stem(image.contiguous(memory_format=torch.channels_last))  # (B, 32, 48, 48)
        neck = self.neck(self.trunk(features))
        mesh = self.points(neck).view(-1, points.MESH_COUNT, 3)
        crops = self._region_crops(mesh[:, :, :2])
        refined_xy = self._refine(features, crops)
        return MeshPoints(self._merge(mesh, refined_xy), self.presence(neck).sigmoid().view(-1))

    def _region_crops(self, mesh_xy: Tensor) -> RegionCrops:
        """The upright crop around each region: (B, 468, 2) → centre and axes. MediaPipe: Landmarks2TransformMatrix."""
        corners = mesh_xy[:, self.region_corners]  # (B, 3, 2, 2)
        along = corners[:, :, 1] - corners[:, :, 0]
        angle = torch.atan2(along[..., 1], along[..., 0])  # (B, 3)
        cos, sin = angle.cos(), angle.sin()
        rotation = torch.stack([cos, -sin, sin, cos], dim=-1).unflatten(-1, (2, 2))  # (B, 3, 2, 2) crop → image
        upright = mesh_xy[:, self.region_indices] @ rotation  # (B, 3, 80, 2): rows times R is Rᵀ on columns
        low, high = upright.amin(dim=2), upright.amax(dim=2)
        centre = (rotation @ ((low + high) / 2).unsqueeze(-1)).squeeze(-1)  # (B, 3, 2)
        return RegionCrops(centre, rotation * (CROP_MARGIN * (high - low)).unsqueeze(-2))

    def _refine(self, features: Tensor, crops: RegionCrops) -> list[Tensor]:
        """Each head's points (B, n, 2) in input pixels. MediaPipe: TransformTensorBilinear, TransformLandmarks."""
        cells = crops.sample(features)  # (B, 3·32, 16, 16)
        regions = self.region_trunk(cells).unflatten(1, (3, 128))  # (B, 3, 128, 4, 4)
        heads = self.region_neck(regions[:, self.head_regions].flatten(1, 2))  # (B, 5·32, 2, 2)
        refined = []
        for head, region, to_points in zip(heads.chunk(5, dim=1), self.HEAD_REGIONS, self.region_points, strict=True):
            in_crop = to_points(head).view(heads.shape[0], -1, 2) / CROP_UNITS  # (B, n, 2)
            refined.append(crops.to_image(in_crop, region))
        return refined

    def _merge(self, mesh: Tensor, refined_xy: list[Tensor]) -> Tensor:
        """(B, 478, 3): refined x and y where there are any, the mesh's z; an iris has its lids' mean z."""
        xy = torch.cat([mesh[:, :, :2], *refined_xy], dim=1)[:, self.merge_indices]
        iris_z = mesh[:, self.rims, 2].mean(dim=2).repeat_interleave(len(points.LEFT_IRIS), dim=1)  # (B, 10)
        z = torch.cat([mesh[:, :, 2], iris_z], dim=1)
        return torch.cat([xy, z.unsqueeze(2)], dim=2)


@dataclass(frozen=True)
class RegionCrops:
    """Rotated rectangles in the 192 px input.

    centre: (B, 3, 2) pixels.
    axes: (B, 3, 2, 2); its columns are the rectangle's sides in pixels.
    """

    centre: Tensor
    axes: Tensor

    def __post_init__(self) -> None:
        if self.axes.shape != (*self.centre.shape, 2):
            raise ValueError(f"need (B, R, 2) and (B, R, 2, 2), got {self.centre.shape} and {self.axes.shape}")

    def to_image(self, in_crop: Tensor, region: int) -> Tensor:
        """Input pixels (B, n, 2) of points given in 0..1 of one region's crop."""
        return self.centre[:, region, None] + (in_crop - 0.5) @ self.axes[:, region].transpose(-1, -2)

    def sample(self, features: Tensor) -> Tensor:
        """(B, R·C, 16, 16) bilinear samples of (B, C, H, W) features that span the input."""
        batch, _, height, width = features.shape
        count = self.centre.shape[1]
        along = (torch.arange(CROP_CELLS, device=features.device) + 0.5) / CROP_CELLS - 0.5
        v, u = torch.meshgrid(along, along, indexing="ij")
        offsets = torch.stack([u, v], dim=-1).view(-1, 2)  # (256, 2)
        image_xy = self.centre[:, :, None] + offsets @ self.axes.transpose(-1, -2)  # (B, R, 256, 2)
        grid = (image_xy * (2 / MESH_INPUT_PX) - 1).view(batch, count * CROP_CELLS, CROP_CELLS, 2)
        sampled = F.grid_sample(features, grid, align_corners=False)  # (B, C, R·16, 16)
        # PARITY: MediaPipe has no half-covered border: whatever lies past the outermost cell centres is zero;
        # test_networks.py pins it.
        limit = 1 - 1 / grid.new_tensor([width, height])
        inside = (grid.abs() <= limit).all(dim=-1).unsqueeze(1)
        regions: Tensor = (sampled * inside).unflatten(2, (count, CROP_CELLS))  # (B, C, R, 16, 16)
        return regions.transpose(1, 2).flatten(1, 2).contiguous(memory_format=torch.channels_last)


def _merge_indices(head_indices: tuple[tuple[int, ...], ...]) -> list[int]:
    """For each of the 478 points, its row among the mesh's points followed by all heads' points."""
    rows = list(range(points.POINT_COUNT))
    refined = [index for indices in head_indices for index in indices]
    for row, index in enumerate(refined, start=points.MESH_COUNT):
        rows[index] = row
    return rows
