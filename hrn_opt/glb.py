"""One mesh with its material as a binary glTF 2.0 file, in metres."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hrn_opt.types import Mesh

GENERATOR = "hrn_opt"
METRES_PER_DECIMETRE = 0.1
_CLAY_GREY = 0.6  # linear base colour, a light grey on screen
_CLAY_ROUGHNESS = 0.85


@dataclass(frozen=True)
class MeshArrays:
    """What the mesh formats write.

    vertices: (N, 3) float32, metres.   normals: (N, 3) float32, unit.   uv: (N, 2) float32.   faces: (F, 3) uint32.
    """

    vertices: np.ndarray
    normals: np.ndarray
    uv: np.ndarray
    faces: np.ndarray


def mesh_arrays(mesh: Mesh) -> MeshArrays:
    def array(tensor, dtype):
        return np.ascontiguousarray(tensor.detach().cpu().numpy(), dtype)

    return MeshArrays(
        vertices=array(mesh.vertices, np.float32) * np.float32(METRES_PER_DECIMETRE),
        normals=_unit_normals(array(mesh.normals, np.float32)),
        uv=array(mesh.uv, np.float32),
        faces=array(mesh.faces, np.uint32),
    )


def _unit_normals(normals: np.ndarray) -> np.ndarray:
    """(N, 3) float32 of length 1; where there is no direction, as at a vertex of no area, +z: out of the face."""
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    usable = np.isfinite(length) & (length > 1e-6)
    return np.where(usable, normals / np.where(usable, length, 1), np.float32([0, 0, 1]))


@dataclass(frozen=True)
class EncodedImage:
    content: bytes
    mime_type: str


def glb(mesh: Mesh, image: EncodedImage | None) -> bytes:
    """The GLB container; grey clay where there is no image."""
    import pygltflib as gltf  # here, as the command line and the page start without it

    arrays = mesh_arrays(mesh)
    flipped_uv = arrays.uv * np.float32([1, -1]) + np.float32([0, 1])  # glTF counts v downwards from the top row
    blob = _Blob(gltf)
    indices = blob.add(arrays.faces.reshape(-1), gltf.ELEMENT_ARRAY_BUFFER, "SCALAR")
    attributes = gltf.Attributes(
        POSITION=blob.add(arrays.vertices, gltf.ARRAY_BUFFER, "VEC3", bounds=True),
        NORMAL=blob.add(arrays.normals, gltf.ARRAY_BUFFER, "VEC3"),
        TEXCOORD_0=blob.add(flipped_uv, gltf.ARRAY_BUFFER, "VEC2") if image else None,
    )
    document = gltf.GLTF2(
        asset=gltf.Asset(version="2.0", generator=GENERATOR),
        scene=0,
        scenes=[gltf.Scene(nodes=[0])],
        nodes=[gltf.Node(name="face", mesh=0)],
        meshes=[
            gltf.Mesh(name="face", primitives=[gltf.Primitive(attributes=attributes, indices=indices, material=0)])
        ],
        materials=[_skin(gltf) if image else _clay(gltf)],
    )
    if image:
        document.images = [
            gltf.Image(name="texture", mimeType=image.mime_type, bufferView=blob.add_bytes(image.content))
        ]
        filters = {"magFilter": gltf.LINEAR, "minFilter": gltf.LINEAR_MIPMAP_LINEAR}
        document.samplers = [gltf.Sampler(wrapS=gltf.CLAMP_TO_EDGE, wrapT=gltf.CLAMP_TO_EDGE, **filters)]
        document.textures = [gltf.Texture(name="texture", source=0, sampler=0)]
        document.extensionsUsed = ["KHR_materials_unlit"]
    document.accessors, document.bufferViews = blob.accessors, blob.views
    document.buffers = [gltf.Buffer(byteLength=len(blob.content))]
    document.set_binary_blob(bytes(blob.content))
    return b"".join(document.save_to_bytes())


def _skin(gltf):
    base = gltf.PbrMetallicRoughness(
        baseColorTexture=gltf.TextureInfo(index=0), metallicFactor=0.0, roughnessFactor=1.0
    )
    return gltf.Material(
        name="skin",
        pbrMetallicRoughness=base,
        doubleSided=True,
        alphaCutoff=None,
        extensions={"KHR_materials_unlit": {}},
    )


def _clay(gltf):
    base = gltf.PbrMetallicRoughness(
        baseColorFactor=[_CLAY_GREY] * 3 + [1.0], metallicFactor=0.0, roughnessFactor=_CLAY_ROUGHNESS
    )
    return gltf.Material(name="clay", pbrMetallicRoughness=base, doubleSided=True, alphaCutoff=None)


class _Blob:
    """The binary chunk being filled, with one view (and for arrays one accessor) a piece."""

    def __init__(self, gltf):
        self.gltf = gltf
        self.content = bytearray()
        self.views = []
        self.accessors = []

    def add_bytes(self, content: bytes, target: int | None = None) -> int:
        """Index of the buffer view that holds the bytes, on a boundary of four as glTF asks."""
        self.content.extend(b"\0" * (-len(self.content) % 4))
        view = self.gltf.BufferView(buffer=0, byteOffset=len(self.content), byteLength=len(content), target=target)
        self.content.extend(content)
        self.views.append(view)
        return len(self.views) - 1

    def add(self, values: np.ndarray, target: int, kind: str, bounds: bool = False) -> int:
        """Index of the accessor to the array: (N,) uint32, or (N, 2) or (N, 3) float32."""
        component = self.gltf.UNSIGNED_INT if values.dtype == np.uint32 else self.gltf.FLOAT
        accessor = self.gltf.Accessor(
            bufferView=self.add_bytes(values.tobytes(), target), componentType=component, count=len(values), type=kind
        )
        if bounds:
            accessor.min, accessor.max = values.min(0).tolist(), values.max(0).tolist()
        self.accessors.append(accessor)
        return len(self.accessors) - 1
