"""The small reader of .mat files against scipy's, and on files that are not whole."""

import io
import struct
import zlib

import numpy as np
import pytest

from hrn_opt.errors import PackDamaged
from hrn_opt.hrn.pack.matfile import read_mat

scipy_io = pytest.importorskip("scipy.io", reason="scipy writes and judges the files; it is no run-time dependency")

ARRAYS = {
    "double": np.linspace(-1, 1, 15).reshape(3, 5),
    "single": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "bytes": np.arange(3, dtype=np.uint8)[None],
    "shorts": np.array([[-5], [7]], np.int16),
    "longs": np.array([[2**40, -1]], np.int64),
    "one": np.array([[4]], np.int32),
    "empty": np.zeros((0, 3)),
}


def mat_file(tmp_path, arrays, **options):
    path = tmp_path / "some.mat"
    scipy_io.savemat(path, arrays, **options)
    return path


@pytest.mark.parametrize("compressed", [False, True])
def test_arrays_are_read_as_scipy_reads_them(tmp_path, compressed):
    path = mat_file(tmp_path, ARRAYS, do_compression=compressed)
    read = read_mat(path, tuple(ARRAYS))
    assert set(read) == set(ARRAYS)
    for name, expected in scipy_io.loadmat(path, mat_dtype=True).items():
        if name in ARRAYS:
            assert read[name].shape == expected.shape and read[name].dtype == expected.dtype, name
            assert np.array_equal(read[name], expected), name


def test_only_named_numeric_arrays_are_returned(tmp_path):
    others = {"text": "hello", "struct": {"a": 1.0}, "cells": np.array([1, "b"], object), "complex": np.array([[1j]])}
    path = mat_file(tmp_path, ARRAYS | others)
    assert set(read_mat(path, ("double", "text", "struct", "cells", "complex", "absent"))) == {"double"}


def element(kind, content, order):
    return struct.pack(order + "II", kind, len(content)) + content + bytes(-len(content) % 8)


def handmade(order, *, compressed=False, dimensions=(2, 3), stored=b"\1\2\3\4\5\6"):
    """A double array stored as bytes, the way MATLAB shrinks whole numbers; with a small element as its name."""
    flags = element(6, struct.pack(order + "II", 6, 0), order)
    shape = element(5, struct.pack(order + "ii", *dimensions), order)
    small = struct.pack(order + "I", 2 << 16 | 1) + b"ab\0\0"
    matrix = element(14, flags + shape + small + element(2, stored, order), order)
    if compressed:
        packed = zlib.compress(matrix)
        matrix = struct.pack(order + "II", 15, len(packed)) + packed
    header = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack(order + "H", 0x0100)
    return header + {"<": b"IM", ">": b"MI"}[order] + matrix


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compressed", [False, True])
def test_either_byte_order_and_shrunk_numbers(tmp_path, order, compressed):
    content = handmade(order, compressed=compressed)
    (tmp_path / "some.mat").write_bytes(content)
    read = read_mat(tmp_path / "some.mat", ("ab",))["ab"]
    assert read.dtype == np.float64
    assert np.array_equal(read, [[1, 3, 5], [2, 4, 6]])  # MATLAB counts down the columns
    assert np.array_equal(read, scipy_io.loadmat(io.BytesIO(content))["ab"])


@pytest.mark.parametrize("compressed", [False, True])
def test_a_file_cut_anywhere_within_an_array_is_damaged(tmp_path, compressed):
    whole = mat_file(tmp_path, {"double": ARRAYS["double"]}, do_compression=compressed).read_bytes()
    cut = tmp_path / "cut.mat"
    for length in [*range(0, 128, 16), *range(129, len(whole))]:
        cut.write_bytes(whole[:length])
        with pytest.raises(PackDamaged, match=r"cut\.mat is .*fetch the pack again"):
            read_mat(cut, ("double",))


@pytest.mark.parametrize("dimensions", [(2, 4), (-2, -3), (2**31 - 1, 2**31 - 1)])
def test_a_shape_that_the_data_does_not_fill_is_damaged(tmp_path, dimensions):
    (tmp_path / "some.mat").write_bytes(handmade("<", dimensions=dimensions))
    with pytest.raises(PackDamaged, match="holds 6 values"):
        read_mat(tmp_path / "some.mat", ("ab",))


@pytest.mark.parametrize("content", [b"not a mat file" * 20, b"MATLAB 7.3".ljust(124) + b"\0\2IM" + b"\x89HDF" * 9])
def test_other_files_are_damaged(tmp_path, content):
    (tmp_path / "some.mat").write_bytes(content)
    with pytest.raises(PackDamaged, match="no header of a MATLAB 5 file"):
        read_mat(tmp_path / "some.mat", ("ab",))
