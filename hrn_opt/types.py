"""The values that cross rooms, checked when made.

Frames: photo pixels are (x, y), x right, y down, (0.5, 0.5) is the centre of the top-left pixel.
Model frame: x to the face's left (image right), y up, z out of the face, in decimetres.
UV: u right, v up, in 0..1; texel centres at (i + 0.5) / size; row 0 of a texture is v = 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hrn_opt.checks import as_numbers, check, is_between
from hrn_opt.errors import OptionInvalid, PhotoArrayInvalid

if TYPE_CHECKING:
    from torch import Tensor


class Want(str, Enum):
    """How much work is done; each level includes the one before."""

    TEXTURE = "texture"  # the UV texture only
    MESH = "mesh"  # adds vertices with normals, ready to export
    DETAIL = "detail"  # adds normal and displacement maps where the model has them
    TURNTABLE = "turntable"  # adds the rotating preview

    @property
    def level(self) -> int:
        return list(Want).index(self)

    @classmethod
    def parse(cls, value: Want | str) -> Want:
        try:
            return cls(value)
        except ValueError:
            choices = ", ".join(repr(want.value) for want in cls)
            raise OptionInvalid(f"want={value!r} is not known; use one of {choices}.") from None


class Stage(str, Enum):
    """The stages of the method, in order."""

    FIND = "find"
    ALIGN = "align"
    SHAPE = "shape"
    DETAIL = "detail"
    TEXTURE = "texture"
    ASSEMBLE = "assemble"


@dataclass(frozen=True, eq=False)
class Photo:
    """One upright photo, decoded. Equal to itself alone.

    rgb: (height, width, 3) uint8, C-contiguous, read-only by agreement.
    name: what its outputs are named after, without folder or ending.
    """

    rgb: NDArray[np.uint8]
    name: str = "photo"

    def __post_init__(self) -> None:
        if self.rgb.dtype != np.uint8 or self.rgb.ndim != 3 or self.rgb.shape[2] != 3:
            got = f"{self.rgb.shape} {self.rgb.dtype}"
            raise PhotoArrayInvalid(f"Photo.rgb must be (height, width, 3) uint8, got {got}; use hrn_opt.open_photo().")

    @property
    def size_hw(self) -> tuple[int, int]:
        return self.rgb.shape[0], self.rgb.shape[1]


@dataclass(frozen=True)
class Box:
    """An upright box in photo pixels; may reach past the photo's border."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def width(self) -> float:
        return self.right - self.left

    @property
    def height(self) -> float:
        return self.bottom - self.top

    @property
    def area(self) -> float:
        return max(self.width, 0.0) * max(self.height, 0.0)


@dataclass(frozen=True)
class Face:
    """One face found in a photo.

    box: bounds of the face in photo pixels.
    points: (K, 2) or (K, 3) float32 or float64 on the CPU, photo pixels; K and their meaning are the model's own.
    score: 0..1, the model's belief that this is a face.
    """

    box: Box
    points: Tensor
    score: float

    def __post_init__(self) -> None:
        if self.points.ndim != 2 or self.points.shape[1] not in (2, 3):
            raise ValueError(f"Face.points must be (K, 2) or (K, 3), got {tuple(self.points.shape)}")
        check("Face.points", self.points, ("K", "C"), "float32", "float64")


@dataclass(frozen=True)
class Camera:
    """How the model frame falls on the photo.

    matrix: (4, 4) float32; homogeneous model-frame points → (x·w, y·w, depth·w, w), x and y in photo
    pixels, smaller depth is nearer to the viewer.
    """

    matrix: Tensor

    def __post_init__(self) -> None:
        check("Camera.matrix", self.matrix, (4, 4), "float32")

    def project(self, points: Tensor) -> Tensor:
        """(N, 3) of (x px, y px, depth) for (N, 3) model-frame points."""
        matrix = self.matrix.to(points)
        homogeneous = points @ matrix[:, :3].T + matrix[:, 3]  # (N, 4)
        return homogeneous[:, :3] / homogeneous[:, 3:]


@dataclass(frozen=True)
class Mesh:
    """A triangle mesh in the model frame, decimetres.

    vertices: (N, 3) float32.
    faces: (F, 3) int64, counter-clockwise seen from outside.
    normals: (N, 3) float32, unit length.
    uv: (N, 2) float32 in 0..1, v up.
    """

    vertices: Tensor
    faces: Tensor
    normals: Tensor
    uv: Tensor

    def __post_init__(self) -> None:
        check("Mesh.vertices", self.vertices, ("N", 3), "float32")
        check("Mesh.faces", self.faces, ("F", 3), "int64")
        count = self.vertices.shape[0]
        check("Mesh.normals", self.normals, (count, 3), "float32")
        check("Mesh.uv", self.uv, (count, 2), "float32")


@dataclass(frozen=True)
class UVTexture:
    """A square texture; row 0 is v = 1.

    rgb: (size, size, 3) uint8, C-contiguous.
    visibility: (size, size) uint8, 255 where the texel is taken straight from the photo, 0 where it was mirrored or
    filled.
    """

    rgb: NDArray[np.uint8]
    visibility: NDArray[np.uint8]

    def __post_init__(self) -> None:
        check("UVTexture.rgb", self.rgb, ("S", "S", 3), "uint8")
        check("UVTexture.visibility", self.visibility, (self.size, self.size), "uint8")

    @property
    def size(self) -> int:
        return int(self.rgb.shape[0])


@dataclass(frozen=True)
class DetailMaps:
    """What is finer than the mesh; row 0 of the maps is v = 1.

    normal_map: (S, S, 3) uint8, tangent space as glTF takes it: red along +u, green along +v (up), blue out of the
    surface, (128, 128, 255) where it follows the mesh. Of `Reconstruction.mesh`, its normals, and MikkTSpace tangents
    (`mesh.vertex_tangents`).
    displacement_map: (S, S) float32, decimetres along the mesh's normals, 0 beyond it.
    dense_mesh: the displaced surface itself, a vertex at each texel that the mesh covers.
    """

    normal_map: NDArray[np.uint8]
    displacement_map: NDArray[np.float32]
    dense_mesh: Mesh

    def __post_init__(self) -> None:
        check("DetailMaps.normal_map", self.normal_map, ("S", "S", 3), "uint8")
        size = self.normal_map.shape[0]
        check("DetailMaps.displacement_map", self.displacement_map, (size, size), "float32")


@dataclass(frozen=True)
class Hints:
    """What a caller knows about a face already; HRN only.

    landmarks: (68, 2) float32 or float64 photo pixels, (0.5, 0.5) the centre of the top-left one; the face need not be
    found then. HRN aligns by them in float64. The published code counts from pixel centres: add 0.5 to its landmarks.
    skin_mask: (224, 224) float32 0..1, how far each pixel of HRN's own crop is skin.
    cheek_widening: how much the fit's target is widened, 0.03 as published; 0 for the plain crop.
    """

    landmarks: Tensor | None = None
    skin_mask: Tensor | None = None
    cheek_widening: float = 0.03

    def __post_init__(self) -> None:
        if self.landmarks is not None:
            check("landmarks", self.landmarks, (68, 2), "float32", "float64", error=OptionInvalid)
        if self.skin_mask is not None:
            check("skin_mask", self.skin_mask, (224, 224), "float32", error=OptionInvalid)
        for name, values in (("landmarks", self.landmarks), ("skin_mask", self.skin_mask)):
            if values is not None and not values.isfinite().all():
                raise OptionInvalid(f"{name} holds values that are no numbers.")
        if not is_between(self.cheek_widening, 0, 1):
            raise OptionInvalid(f"cheek_widening={self.cheek_widening!r} is not possible; use 0 to 1.")

    @classmethod
    def of(
        cls,
        landmarks: ArrayLike | None = None,
        skin_mask: ArrayLike | None = None,
        cheek_widening: float | None = None,
    ) -> Hints:
        """From arrays, tensors or nested lists; a skin mask with a value above 1 counts as 0..255."""
        import torch  # here alone: who serves needs none

        points = None if landmarks is None else torch.as_tensor(as_numbers(landmarks, np.float64, OptionInvalid))
        mask = None if skin_mask is None else torch.as_tensor(as_numbers(skin_mask, np.float32, OptionInvalid))
        if mask is not None and mask.numel() and mask.max() > 1:
            mask = mask / 255
        return cls(points, mask, cls.cheek_widening if cheek_widening is None else cheek_widening)


@dataclass(frozen=True)
class Request:
    """One face of one photo, and how much to make of it.

    working: the model's working copy of the photo.
    face_index: which face, 0 is the largest.
    """

    photo: Photo
    working: Any
    face: Face
    face_index: int
    want: Want
    texture_size: int
    hints: Hints


@dataclass(frozen=True)
class StageTiming:
    stage: Stage
    seconds: float


@dataclass(frozen=True)
class Advice:
    """What about a photo made its result less good than it could be.

    key: "FaceSmall", "PhotoDark", "PhotoBright", "FaceTurned", "FaceCovered" or "WithoutDetectors".
    message: fit to show.
    values: what the sentence is filled with.
    """

    key: str
    message: str
    values: Mapping[str, int]


@dataclass(frozen=True)
class Reconstruction:
    """One face, reconstructed.

    model: the model's name.
    photo_name: the photo's.
    face_index: which face, 0 is the largest.
    mesh: None when only the texture was asked for.
    camera: lays the mesh back over the photo.
    timings: one entry a stage, in the order run.
    turntable: 30 pictures (512, 512, 3) uint8 of the face turning from -30° to 30°, when asked for.
    detail: when asked for, from models that have it.
    advice: what to do better.

    From HRN only, on the CPU, float32 and as published: coefficients: (257,).
    texture_256: (256, 256, 3) RGB, 0..1 before clipping.
    deformation: (3, 64, 64) and displacement: (1, 256, 256), decimetres.
    mask_source: where the skin mask came from: "graph", "onnx", "outline" or "caller".
    """

    model: str
    photo_name: str
    face_index: int
    face: Face
    texture: UVTexture
    camera: Camera
    mesh: Mesh | None = None
    timings: tuple[StageTiming, ...] = ()
    coefficients: Tensor | None = None
    texture_256: Tensor | None = None
    deformation: Tensor | None = None
    displacement: Tensor | None = None
    mask_source: str = ""
    detail: DetailMaps | None = None
    turntable: tuple[NDArray[np.uint8], ...] | None = None
    advice: tuple[Advice, ...] = ()

    def __post_init__(self) -> None:
        published: dict[str, tuple[Tensor | None, tuple[int, ...]]] = {
            "coefficients": (self.coefficients, (257,)),
            "texture_256": (self.texture_256, (256, 256, 3)),
            "deformation": (self.deformation, (3, 64, 64)),
            "displacement": (self.displacement, (1, 256, 256)),
        }
        for name, (values, shape) in published.items():
            if values is not None:
                check(f"Reconstruction.{name}", values, shape, "float32")

    @property
    def seconds(self) -> float:
        return sum(timing.seconds for timing in self.timings)


@dataclass(frozen=True)
class StageEvent:
    """One stage has just ended (or, for the first event, is about to start).

    fraction: 0..1, how much of the whole is done.
    seconds: what this stage took.
    faces: every face found, on the event of the find stage.
    reconstruction: on the last event only.
    """

    stage: Stage
    fraction: float
    seconds: float
    faces: tuple[Face, ...] = field(default=())
    reconstruction: Reconstruction | None = None
