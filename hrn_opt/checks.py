"""Whether a tensor or an array is what the docstring of its carrier promises."""

from __future__ import annotations

from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

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


def check_each(name: str, values: object, kind: type, *, error: type[Exception] = ValueError) -> None:
    """Raises the error unless the values are a tuple or a list of that kind; None is none."""
    if values is not None and not (isinstance(values, tuple | list) and all(isinstance(one, kind) for one in values)):
        raise error(f"{name} must be a tuple of {kind.__name__}.")


def check_flag(name: str, flag: object, *, error: type[Exception] = ValueError) -> None:
    """Raises the error unless the flag can be asked `is_set()`; None is none."""
    if flag is not None and not callable(getattr(flag, "is_set", None)):
        raise error(f"{name}={flag!r} is no flag; use a threading.Event.")


def as_numbers(values: ArrayLike, dtype: DTypeLike, error: type[Exception] = ValueError) -> NDArray[Any]:
    """The values as an array; raises the error where they are no numbers, or lists of unequal lengths."""
    try:
        return np.asarray(values, dtype)
    except (TypeError, ValueError) as reason:
        raise error(f"A {type(values).__name__} was given; use an array of numbers, or nested lists.") from reason


def is_between(value: Any, low: float, high: float) -> bool:
    """Whether it is one number, and within the limits."""
    return isinstance(value, Real) and bool(low <= value <= high)  # type: ignore[operator]  # all that are real compare
