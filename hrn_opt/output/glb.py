"""One mesh with its material as a binary glTF 2.0 file, in metres."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hrn_opt.geometry.mesh import vertex_tangents
from hrn_opt.types import Mesh

GENERATOR = "hrn_opt"
METRES_PER_DECIMETRE = 0.1
_CLAY_GREY = 0.6  # linear base colour, a light grey on screen
_CLAY_ROUGHNESS = 0.85
_SKIN_ROUGHNESS = 0.6  # enough gloss for the relief to show

Number = TypeVar("Number", np.float32, np.uint32)


@dataclass(frozen=True)
class MeshArrays:
    """What the mesh formats write.

    vertices: (N, 3) float32, metres.
    normals: (N, 3) float32, unit.
    uv: (N, 2) float32.
    faces: (F, 3) uint32.
    """

    vertices: NDArray[np.float32]
    normals: NDArray[np.float32]
    uv: NDArray[np.float32]
    faces: NDArray[np.uint32]


def mesh_arrays(mesh: Mesh) -> MeshArrays:
    return MeshArrays(
        vertices=_array(mesh.vertices, np.float32) * np.float32(METRES_PER_DECIMETRE),
        normals=_unit_normals(_array(mesh.normals, np.float32)),
        uv=_array(mesh.uv, np.float32),
        faces=_array(mesh.faces, np.uint32),
    )


def _array(tensor: Tensor, dtype: type[Number]) -> NDArray[Number]:
    return np.ascontiguousarray(tensor.detach().cpu().numpy(), dtype)


def _unit_normals(normals: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N, 3) float32 of length 1; where there is no direction, as at a vertex of no area, +z: out of the face."""
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    usable = np.isfinite(length) & (length > 1e-6)
    forward = np.array([0, 0, 1], np.float32)
    return np.where(usable, normals / np.where(usable, length, np.float32(1)), forward)


@dataclass(frozen=True)
class EncodedImage:
    content: bytes
    mime_type: str


@dataclass(frozen=True)
class MaterialSpec:
    """What a mesh is covered with.

    texture: None for grey clay.
    lit: takes the viewer's light; without, the texture is shown as it is.
    normal_map: as `types.DetailMaps` has it, of a texture that is lit.
    """

    texture: EncodedImage | None = None
    lit: bool = True
    normal_map: EncodedImage | None = None

    def __post_init__(self) -> None:
        if self.normal_map is not None and not (self.texture and self.lit):
            raise ValueError("MaterialSpec.normal_map needs a texture that is lit")


def glb(mesh: Mesh, look: MaterialSpec) -> bytes:
    """The GLB container."""
    import pygltflib as gltf  # here, as the command line and the page start without it

    arrays = mesh_arrays(mesh)
    turned, moved = np.array([1, -1], np.float32), np.array([0, 1], np.float32)
    flipped_uv = arrays.uv * turned + moved  # glTF counts v downwards from the top row
    blob = _Blob(gltf)
    indices = blob.add(arrays.faces.reshape(-1), gltf.ELEMENT_ARRAY_BUFFER, "SCALAR")
    attributes = gltf.Attributes(
        POSITION=blob.add(arrays.vertices, gltf.ARRAY_BUFFER, "VEC3", bounds=True),
        NORMAL=blob.add(arrays.normals, gltf.ARRAY_BUFFER, "VEC3"),
        TEXCOORD_0=blob.add(flipped_uv, gltf.ARRAY_BUFFER, "VEC2") if look.texture else None,
        TANGENT=blob.add(_tangents(mesh, arrays), gltf.ARRAY_BUFFER, "VEC4") if look.normal_map else None,
    )
    document = gltf.GLTF2(
        asset=gltf.Asset(version="2.0", generator=GENERATOR),
        scene=0,
        scenes=[gltf.Scene(nodes=[0])],
        nodes=[gltf.Node(name="face", mesh=0)],
        meshes=[
            gltf.Mesh(name="face", primitives=[gltf.Primitive(attributes=attributes, indices=indices, material=0)])
        ],
        materials=[_skin(gltf, look) if look.texture else _clay(gltf)],
    )
    if look.texture:
        _add_images(gltf, document, blob, look)
    document.accessors, document.bufferViews = blob.accessors, blob.views
    document.buffers = [gltf.Buffer(byteLength=len(blob.content))]
    document.set_binary_blob(bytes(blob.content))
    return b"".join(document.save_to_bytes())


def _tangents(mesh: Mesh, arrays: MeshArrays) -> NDArray[np.float32]:
    """(N, 4) float32."""
    mended = Mesh(mesh.vertices, mesh.faces, torch.from_numpy(arrays.normals).to(mesh.vertices), mesh.uv)
    return _array(vertex_tangents(mended), np.float32)


def _add_images(gltf: ModuleType, document: Any, blob: _Blob, look: MaterialSpec) -> None:
    """Puts the look's images into the document, in the order that the material counts them."""
    named = (("texture", look.texture), ("normal", look.normal_map))
    images = {name: image for name, image in named if image}
    document.images = [
        gltf.Image(name=name, mimeType=image.mime_type, bufferView=blob.add_bytes(image.content))
        for name, image in images.items()
    ]
    filters = {"magFilter": gltf.LINEAR, "minFilter": gltf.LINEAR_MIPMAP_LINEAR}
    document.samplers = [gltf.Sampler(wrapS=gltf.CLAMP_TO_EDGE, wrapT=gltf.CLAMP_TO_EDGE, **filters)]
    document.textures = [gltf.Texture(name=name, source=place, sampler=0) for place, name in enumerate(images)]
    if not look.lit:
        document.extensionsUsed = ["KHR_materials_unlit"]


def _skin(gltf: ModuleType, look: MaterialSpec) -> Any:
    base = gltf.PbrMetallicRoughness(
        baseColorTexture=gltf.TextureInfo(index=0),
        metallicFactor=0.0,
        roughnessFactor=_SKIN_ROUGHNESS if look.lit else 1.0,
    )
    return gltf.Material(
        name="skin",
        pbrMetallicRoughness=base,
        normalTexture=gltf.NormalMaterialTexture(index=1) if look.normal_map else None,
        doubleSided=True,
        alphaCutoff=None,
        extensions={} if look.lit else {"KHR_materials_unlit": {}},
    )


def _clay(gltf: ModuleType) -> Any:
    base = gltf.PbrMetallicRoughness(
        baseColorFactor=[_CLAY_GREY] * 3 + [1.0], metallicFactor=0.0, roughnessFactor=_CLAY_ROUGHNESS
    )
    return gltf.Material(name="clay", pbrMetallicRoughness=base, doubleSided=True, alphaCutoff=None)


class _Blob:
    """The binary chunk being filled, with one view (and for arrays one accessor) a piece."""

    def __init__(self, gltf: ModuleType):
        self.gltf = gltf
        self.content = bytearray()
        self.views: list[Any] = []
        self.accessors: list[Any] = []

    def add_bytes(self, content: bytes, target: int | None = None) -> int:
        """Index of the buffer view that holds the bytes, on a boundary of four as glTF asks."""
        self.content.extend(b"\0" * (-len(self.content) % 4))
        view = self.gltf.BufferView(buffer=0, byteOffset=len(self.content), byteLength=len(content), target=target)
        self.content.extend(content)
        self.views.append(view)
        return len(self.views) - 1

    def add(self, values: NDArray[Any], target: int, kind: str, bounds: bool = False) -> int:
        """Index of the accessor to the array: (N,) uint32, or (N, 2), (N, 3) or (N, 4) float32."""
        component = self.gltf.UNSIGNED_INT if values.dtype == np.uint32 else self.gltf.FLOAT
        accessor = self.gltf.Accessor(
            bufferView=self.add_bytes(values.tobytes(), target), componentType=component, count=len(values), type=kind
        )
        if bounds:
            accessor.min, accessor.max = values.min(0).tolist(), values.max(0).tolist()
        self.accessors.append(accessor)
        return len(self.accessors) - 1
