"""Stage results of several faces ↔ of each: dataclasses in which dimension 0 of every tensor is the face."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Batch = TypeVar("Batch", bound="DataclassInstance")


def one_of(batch: Batch, index: int) -> Batch:
    """The same with one face: every (B, …) tensor cut to its (1, …), dataclasses within likewise."""
    values = {field.name: getattr(batch, field.name) for field in fields(batch)}
    return replace(batch, **{name: _cut(value, index) for name, value in values.items()})


def joined(faces: Sequence[Batch]) -> Batch:
    """One batch of all faces, in order; the way back from `one_of`."""
    if len(faces) == 1:
        return faces[0]
    columns = {field.name: [getattr(face, field.name) for face in faces] for field in fields(faces[0])}
    return replace(
        faces[0],
        **{name: torch.cat(c) if isinstance(c[0], Tensor) else joined(c) for name, c in columns.items()},
    )


def _cut(value: Any, index: int) -> Any:
    return value[index : index + 1] if isinstance(value, Tensor) else one_of(value, index)
