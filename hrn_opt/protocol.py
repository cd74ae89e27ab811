"""What a model answers; the pipeline hands each stage's answer to the next and knows no more of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from torch import Tensor

from hrn_opt.types import Face, Photo, Reconstruction, Request


class FaceModel(Protocol):
    """A model: the embedded one, or HRN."""

    @property
    def name(self) -> str: ...
    @property
    def cpu_threads(self) -> int: ...  # that its stages run fastest on
    @property
    def extra_texture_sizes(self) -> tuple[int, ...]: ...  # that it has besides 512 to 4096
    @property
    def faces_at_once(self) -> int: ...  # that go through its networks together; above 1 it is a BatchModel
    @property
    def has_detail(self) -> bool: ...  # whether there is a detail stage
    @property
    def takes_hints(self) -> bool: ...

    def working_copy(self, photo: Photo) -> Any: ...  # what its stages read, made once a photo and handed on
    def find(self, working: Any) -> tuple[Face, ...]: ...
    def face_at(self, landmarks: Tensor) -> Face: ...
    def align(self, request: Request) -> Any: ...
    def shape(self, request: Request, aligned: Any) -> Any: ...
    def yaw_rad(self, shape: Any) -> float: ...  # how far the face is turned from the viewer
    def detail(self, request: Request, shape: Any) -> Any: ...
    def texture(self, request: Request, detail: Any) -> Any: ...
    def assemble(self, request: Request, detail: Any, texture: Any) -> Reconstruction: ...


class BatchModel(FaceModel, Protocol):
    """A model with a detail stage whose networks take several faces in one pass."""

    def shape_together(self, aligned: Sequence[Any]) -> list[Any]: ...
    def detail_together(self, shapes: Sequence[Any]) -> list[Any]: ...
