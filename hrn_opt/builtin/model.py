"""The embedded model behind the protocol that the pipeline drives."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from hrn_opt.builtin.align import FacePoints, settle_points
from hrn_opt.builtin.confirm import find_faces
from hrn_opt.builtin.face_mesh import CanonicalFace, load_face_mesh
from hrn_opt.builtin.shape import Shape, fit_shape, with_true_turn
from hrn_opt.builtin.texture import BakedTexture, FaceLayout, bake_texture, face_layout
from hrn_opt.builtin.weights import BuiltinNetworks, load_networks
from hrn_opt.photo.quality import assess_skin
from hrn_opt.types import Box, Face, Photo, Reconstruction, Request, Want

NAME = "builtin"


@dataclass(frozen=True)
class BuiltinModel:
    """BlazeFace, the attention mesh and the canonical face."""

    networks: BuiltinNetworks
    face_mesh: CanonicalFace

    name = NAME
    # The networks are too small to share out: on busy cores two threads wait for each other (medians up to 480 ms).
    cpu_threads = 1
    extra_texture_sizes = ()
    faces_at_once = 1
    has_detail = False
    takes_hints = False

    @classmethod
    def load(cls) -> BuiltinModel:
        return cls(load_networks(), load_face_mesh())

    @cached_property
    def layout(self) -> FaceLayout:
        return face_layout(self.face_mesh)

    def working_copy(self, photo: Photo) -> Photo:
        return photo

    def find(self, photo: Photo) -> tuple[Face, ...]:
        """Every face, largest first; points are (478, 3) after one pass of the mesh network, two where in doubt."""
        faces = [_face(one) for one in find_faces(self.networks, photo.rgb)]
        return tuple(sorted(faces, key=lambda face: face.box.area, reverse=True))

    def face_at(self, landmarks: Tensor) -> Face:
        raise NotImplementedError("the embedded model takes no landmarks")

    def align(self, request: Request) -> Tensor:
        """(478, 3) settled points."""
        return settle_points(self.networks.mesh, request.photo.rgb, request.face.points)

    def shape(self, request: Request, aligned: Tensor) -> Shape:
        return fit_shape(self.face_mesh, with_true_turn(self.face_mesh, aligned))

    def yaw_rad(self, shape: Shape) -> float:
        return shape.yaw_rad

    def detail(self, request: Request, shape: Shape) -> Shape:
        raise NotImplementedError("the embedded model has no detail stage")

    def texture(self, request: Request, shape: Shape) -> BakedTexture:
        return bake_texture(request.photo.rgb, shape, self.layout, request.texture_size)

    def assemble(self, request: Request, shape: Shape, baked: BakedTexture) -> Reconstruction:
        return Reconstruction(
            model=self.name,
            photo_name=request.photo.name,
            face_index=request.face_index,
            face=request.face,
            texture=baked.texture,
            camera=shape.camera,
            mesh=shape.mesh if request.want.level >= Want.MESH.level else None,
            advice=assess_skin(baked.skin.covered_share, baked.skin.clipped_share),
        )


def _face(located: FacePoints) -> Face:
    return Face(Box(*located.bounds.tolist()), located.points, located.presence)
