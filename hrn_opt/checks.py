"""Whether a tensor or an array is what the docstring of its carrier promises."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor


def check(
    name: str,
    values: Tensor | NDArray[Any],
    shape: tuple[int | str, ...],
    *dtypes: str,
    error: type[Exception] = ValueError,
) -> None:
    """Raises the error where the values have another shape or another dtype.

    name: of the field, "Mesh.uv".
    shape: a letter stands for any size, the same letter for the same size: ("S", "S", 3).
    dtypes: those that are allowed, "float32".
    """
    got, dtype = tuple(values.shape), str(values.dtype).removeprefix("torch.")
    sizes = dict(zip(shape, got, strict=False))  # letter → its size
    wanted = tuple(side if isinstance(side, int) else sizes[side] for side in shape[: len(got)])
    if len(got) != len(shape) or got != wanted or dtype not in dtypes:
        sides = ", ".join(map(str, shape)) + ("," if len(shape) == 1 else "")
        raise error(f"{name} must be ({sides}) {' or '.join(dtypes)}, got {got} {dtype}")
