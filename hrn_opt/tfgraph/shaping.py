"""TensorFlow's operations that move, cut, join, make and reduce tensors, in torch."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from hrn_opt.tfgraph.errors import NotBuiltIn
from hrn_opt.tfgraph.graphdef import MAX_ELEMENTS, Attributes, listed, whole_number

# types.proto; floating kinds all become the network's own precision (see program.py).
TORCH_DTYPES = {
    1: torch.float32, 2: torch.float32, 3: torch.int32, 4: torch.uint8, 5: torch.int16, 6: torch.int8, 9: torch.int64,
    10: torch.bool, 14: torch.float32, 17: torch.int32, 19: torch.float32, 22: torch.int64, 23: torch.int64,
}  # fmt: skip
INT32 = 3

Reduction = Callable[[Tensor, list[int], bool], Tensor]


def torch_dtype(attributes: Attributes, key: str, default: int = INT32) -> torch.dtype:
    code = attributes.get(key, default)
    if not isinstance(code, int) or code not in TORCH_DTYPES:
        raise NotBuiltIn(f"data type number {code}")
    return TORCH_DTYPES[code]


def cast(attributes: Attributes, x: Tensor) -> Tensor:
    return x.to(torch_dtype(attributes, "DstT"))


def shape(attributes: Attributes, x: Tensor) -> Tensor:
    return torch.tensor(x.shape, dtype=torch_dtype(attributes, "out_type"), device="cpu")


def reshape(attributes: Attributes, x: Tensor, sizes: Tensor) -> Tensor:
    return x.reshape(sizes.tolist())


def squeeze(attributes: Attributes, x: Tensor) -> Tensor:
    axes = listed(attributes, "squeeze_dims") or listed(attributes, "axis")
    if any(x.shape[axis] != 1 for axis in axes):
        raise ValueError(f"axes {axes} of {tuple(x.shape)} are not all 1")
    return x.squeeze(axes) if axes else x.squeeze()


def expand_dims(attributes: Attributes, x: Tensor, axis: Tensor) -> Tensor:
    return x.unsqueeze(int(axis))


def transpose(attributes: Attributes, x: Tensor, order: Tensor) -> Tensor:
    return x.permute(order.tolist())


def tile(attributes: Attributes, x: Tensor, counts: Tensor) -> Tensor:
    if len(counts) != x.ndim:
        raise ValueError(f"{len(counts)} counts for {x.ndim} axes")
    return x.repeat(counts.tolist())


def tile_sketch(attributes: Attributes, x: Tensor, counts: Tensor) -> Tensor:
    sizes = [size * count for size, count in zip(x.shape, counts.tolist(), strict=True)]
    return torch.empty(sizes, dtype=x.dtype, device="meta")


def reverse(attributes: Attributes, x: Tensor, axes: Tensor) -> Tensor:
    return x.flip(axes.tolist())


def concat(attributes: Attributes, *parts: Tensor) -> Tensor:
    """ConcatV2: the axis comes last."""
    return torch.cat(parts[:-1], int(parts[-1]))


def concat_axis_first(attributes: Attributes, axis: Tensor, *parts: Tensor) -> Tensor:
    return torch.cat(parts, int(axis))


def concat_sketch(attributes: Attributes, *parts: Tensor) -> Tensor:
    return _joined(parts[:-1], int(parts[-1]))


def concat_axis_first_sketch(attributes: Attributes, axis: Tensor, *parts: Tensor) -> Tensor:
    return _joined(parts, int(axis))


def _joined(parts: tuple[Tensor, ...], axis: int) -> Tensor:
    sizes = list(parts[0].shape)
    others = [[size for number, size in enumerate(part.shape) if number != axis % part.ndim] for part in parts]
    if any(other != others[0] for other in others):
        raise ValueError(f"parts of {[tuple(part.shape) for part in parts]} do not join")
    sizes[axis] = sum(part.shape[axis] for part in parts)
    return torch.empty(sizes, dtype=parts[0].dtype, device="meta")


def pack_sketch(attributes: Attributes, *parts: Tensor) -> Tensor:
    axis = whole_number(attributes, "axis")
    if any(part.shape != parts[0].shape for part in parts):
        raise ValueError(f"parts of {[tuple(part.shape) for part in parts]} do not stack")
    return _joined(tuple(part.unsqueeze(axis) for part in parts), axis)


def pack(attributes: Attributes, *parts: Tensor) -> Tensor:
    return torch.stack(parts, whole_number(attributes, "axis"))


def unpack(attributes: Attributes, x: Tensor) -> tuple[Tensor, ...]:
    return x.unbind(whole_number(attributes, "axis"))


def split(attributes: Attributes, axis: Tensor, x: Tensor) -> tuple[Tensor, ...]:
    count = whole_number(attributes, "num_split")
    if x.shape[int(axis)] % count:
        raise ValueError(f"{x.shape[int(axis)]} do not split in {count}")
    return x.chunk(count, int(axis))


def slice_(attributes: Attributes, x: Tensor, begin: Tensor, sizes: Tensor) -> Tensor:
    """Size -1 means all that is left."""
    for axis, (start, count) in enumerate(zip(begin.tolist(), sizes.tolist(), strict=True)):
        x = x.narrow(axis, start, x.shape[axis] - start if count == -1 else count)
    return x


def strided_slice(attributes: Attributes, x: Tensor, begin: Tensor, end: Tensor, strides: Tensor) -> Tensor:
    """Python's x[begin:end:stride, ..., None, i], spelled as three lists and five bit masks."""
    masks = ("begin", "end", "ellipsis", "new_axis", "shrink_axis")
    bits = {key: whole_number(attributes, f"{key}_mask") for key in masks}

    def marked(key: str, entry: int) -> bool:
        return bool(bits[key] >> entry & 1)

    count = len(begin)
    axis = 0
    for i, (start, stop, step) in enumerate(zip(begin.tolist(), end.tolist(), strides.tolist(), strict=True)):
        if marked("ellipsis", i):
            axis += x.ndim - axis - sum(not marked("new_axis", j) for j in range(i + 1, count))
        elif marked("new_axis", i):
            x = x.unsqueeze(axis)
            axis += 1
        elif marked("shrink_axis", i):
            x = x.select(axis, start)
        else:
            x = _every(x, axis, slice(None if marked("begin", i) else start, None if marked("end", i) else stop, step))
            axis += 1
    return x


def _every(x: Tensor, axis: int, part: slice) -> Tensor:
    rows = range(*part.indices(x.shape[axis]))
    if rows.step > 0:
        selection = [slice(None)] * axis + [slice(rows.start, max(rows.stop, rows.start), rows.step)]
        return x[tuple(selection)]
    return x.index_select(axis, torch.tensor(list(rows), dtype=torch.long, device=x.device))


def gather(attributes: Attributes, x: Tensor, indices: Tensor, axis: Tensor | None = None) -> Tensor:
    if attributes.get("batch_dims"):
        raise NotBuiltIn("GatherV2 with batch_dims")
    along = int(axis) % x.ndim if axis is not None else 0
    picked = x.index_select(along, indices.flatten().long())
    return picked.reshape(*x.shape[:along], *indices.shape, *x.shape[along + 1 :])


def fill(attributes: Attributes, sizes: Tensor, value: Tensor) -> Tensor:
    numbers = sizes.tolist()
    _limit(math.prod(numbers))
    return value.reshape([1] * len(numbers)).expand(numbers).clone()


def fill_sketch(attributes: Attributes, sizes: Tensor, value: Tensor) -> Tensor:
    return torch.empty(sizes.tolist(), dtype=value.dtype, device="meta")


def range_(attributes: Attributes, start: Tensor, limit: Tensor, step: Tensor) -> Tensor:
    first, last, stride = start.item(), limit.item(), step.item()
    _limit(abs((last - first) / stride))
    return torch.arange(first, last, stride, dtype=start.dtype)


def _limit(count: float) -> None:
    if count > MAX_ELEMENTS:
        raise ValueError(f"a tensor of {count:.0f} numbers")


def reducer(function: Reduction) -> Callable[[Attributes, Tensor, Tensor], Tensor]:
    """An operation that reduces along the axes in its second input; `function(x, axes, keepdim)` does the work."""

    def reduce(attributes: Attributes, x: Tensor, axes: Tensor) -> Tensor:
        numbers: list[int] = axes.reshape(-1).tolist()
        if not numbers:
            return x
        keep = bool(attributes.get("keep_dims") or attributes.get("keepdims"))
        return function(x, sorted({axis % x.ndim for axis in numbers}) if x.ndim else [], keep)

    return reduce


def reduction_sketch(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    sizes = [1 if axis in axes else size for axis, size in enumerate(x.shape) if keep or axis not in axes]
    return torch.empty(sizes, dtype=x.dtype, device="meta")


def mean(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return x.mean(axes, keep) if x.is_floating_point() else x.double().mean(axes, keep).to(x.dtype)


def sum_(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return x.sum(axes, keep, dtype=x.dtype)


def product(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    for axis in reversed(axes):
        x = x.prod(axis, keep, dtype=x.dtype)
    return x


def arg_max(attributes: Attributes, x: Tensor, axis: Tensor) -> Tensor:
    return x.argmax(int(axis)).to(torch_dtype(attributes, "output_type", 9))


def arg_sketch(attributes: Attributes, x: Tensor, axis: Tensor) -> Tensor:
    return torch.empty(x.select(int(axis), 0).shape, dtype=torch_dtype(attributes, "output_type", 9), device="meta")
