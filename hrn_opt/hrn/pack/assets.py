"""The pack's morphable model, UV layout and small tables, checked and brought into the prepared pack's form."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hrn_opt.errors import PackDamaged, PackIncomplete
from hrn_opt.hrn.align.face_crop import five_points
from hrn_opt.hrn.exact.pytorch3d_uv import uv_fragments
from hrn_opt.hrn.pack import published
from hrn_opt.hrn.pack.matfile import read_mat

IDENTITY_COUNT, EXPRESSION_COUNT, ALBEDO_COUNT = 80, 64, 80
MAP_SIZE = 256  # texels a side of every UV map
_ALBEDO_FILE_SIZE = 2 * MAP_SIZE
# Upstream recentres on the published vertex count whatever the file holds.
_RECENTRED_VERTICES = 35709
_FACES_PER_POINT = 8
_ROWS_AT_ONCE = 16  # of the halved albedo basis: 40 MB of the file are looked at together
_SIDE_POINTS = 5


def read_assets(folder: Path) -> dict[str, np.ndarray]:
    """Every asset of the published pack, under its name and in the shape of the prepared pack."""
    model = morphable_model(folder)
    return model | layout(folder, len(model["bfm.mean_shape"])) | alignment(folder) | albedo(folder)


@dataclass(frozen=True)
class _Source:
    """One array of one file, which names it in errors."""

    file: str
    name: str
    array: np.ndarray

    def shaped(self, *shape: int) -> np.ndarray:
        """The array, when it has this shape; -1 stands for any size."""
        fits = self.array.ndim == len(shape) and all(
            want in (-1, size) for want, size in zip(shape, self.array.shape, strict=True)
        )
        if not fits:
            want = "×".join("N" if size < 0 else str(size) for size in shape)
            raise PackDamaged(
                f"{self.name} in {self.file} has shape {self.array.shape} instead of {want}; {published.REMEDY}."
            )
        if self.array.dtype.kind not in "fiu":
            raise PackDamaged(f"{self.name} in {self.file} holds no numbers; {published.REMEDY}.")
        return self.array

    def indices(self, count: int, *shape: int) -> np.ndarray:
        """int32 counting from 0, of numbers that count from 1 to `count` in the file."""
        array = self.shaped(*shape)
        if array.size and not (array.min() >= 1 and array.max() <= count):
            raise PackDamaged(
                f"{self.name} in {self.file} points outside 1..{count} ({array.min()}..{array.max()}); "
                f"{published.REMEDY}."
            )
        return (array.astype(np.int64) - 1).astype(np.int32)


def _mat(folder: Path, file: str, *names: str) -> dict[str, _Source]:
    arrays = read_mat(folder / file, names)
    missing = [name for name in names if name not in arrays]
    if missing:
        raise PackIncomplete(f"{file} has no {missing[0]!r}; {published.REMEDY}.")
    return {name: _Source(file, name, arrays[name]) for name in names}


def _npy(folder: Path, file: str) -> _Source:
    try:
        array = np.load(folder / file, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise PackDamaged(f"{file} is truncated or damaged; {published.REMEDY}.") from error
    if not isinstance(array, np.ndarray):  # an .npz archive
        raise PackDamaged(f"{file} is no single array; {published.REMEDY}.")
    return _Source(file, "the array", array)


def morphable_model(folder: Path) -> dict[str, np.ndarray]:
    """Shape, bases and triangles, from the one file that has them."""
    file = _mat(folder, published.MORPHABLE_MODEL, "meanshape", "idBase", "exBase", "tri", "point_buf", "keypoints")
    mean = file["meanshape"]
    if 1 not in mean.array.shape or mean.array.size % 3:
        raise PackDamaged(
            f"meanshape in {mean.file} has shape {mean.array.shape}, no row of points; {published.REMEDY}."
        )
    count = mean.array.size // 3
    bases = [
        file[name].shaped(3 * count, size).T.astype(np.float32)
        for name, size in (("idBase", IDENTITY_COUNT), ("exBase", EXPRESSION_COUNT))
    ]
    triangles = file["tri"].indices(count, -1, 3)
    keypoints = file["keypoints"]
    flat_keypoints = _Source(keypoints.file, keypoints.name, keypoints.array.reshape(-1))
    return {
        "bfm.mean_shape": _recentred(mean.array),
        "bfm.shape_basis": np.concatenate(bases),  # (144, 3N)
        "bfm.triangles": triangles,
        # One past the last triangle is padding, a triangle without a normal.
        "bfm.point_faces": file["point_buf"].indices(len(triangles) + 1, count, _FACES_PER_POINT),
        "bfm.keypoints": flat_keypoints.indices(count, 68),
    }


def _recentred(mean_shape: np.ndarray) -> np.ndarray:
    """(N, 3) float32 mean shape round the origin, from (1, 3N) or (3N, 1)."""
    # PARITY: upstream rounds to float32 first and averages in float32, row after row; test_prepare.py pins it
    points = np.ascontiguousarray(mean_shape.astype(np.float32).reshape(-1, 3))
    centred: NDArray[np.float32] = points - np.mean(points[:_RECENTRED_VERTICES], axis=0, keepdims=True)
    return centred


def albedo(folder: Path) -> dict[str, np.ndarray]:
    """The albedo maps, 0..255, halved to 256²: what comes later is linear in them, so halving once is the same."""
    size = _ALBEDO_FILE_SIZE
    mean = _npy(folder, published.ALBEDO_MEAN)
    basis = _npy(folder, published.ALBEDO_BASIS)
    if mean.array.size != size * size * 3:
        mean.shaped(size, size, 3)
    if basis.array.size != size * size * 3 * ALBEDO_COUNT or basis.array.shape[-1] != ALBEDO_COUNT:
        basis.shaped(size, size, 3, ALBEDO_COUNT)
    return {
        "bfm.albedo_mean": _halved(mean.array.reshape(size, size, 3).astype(np.float32)).reshape(-1),
        "bfm.albedo_basis": _halved_basis(basis.array.reshape(size, size, 3, ALBEDO_COUNT)),
    }


def _halved(maps: np.ndarray) -> np.ndarray:
    """(H/2, W/2, ...) means of 2 × 2 texels of (H, W, ...) float32, in the order of torch's bilinear interpolation."""
    half = np.float32(0.5)
    rows = half * maps[:, 0::2] + half * maps[:, 1::2]  # (H, W/2, ...)
    means: NDArray[np.float32] = np.add(half * rows[0::2], half * rows[1::2], dtype=np.float32)
    return means


def _halved_basis(basis: np.ndarray) -> np.ndarray:
    """(80, 256·256·3) float32, one coefficient's map after the other, of (512, 512, 3, 80)."""
    halved = np.empty((ALBEDO_COUNT, MAP_SIZE, MAP_SIZE * 3), np.float32)
    for start in range(0, MAP_SIZE, _ROWS_AT_ONCE):
        rows = _halved(np.asarray(basis[2 * start : 2 * (start + _ROWS_AT_ONCE)], np.float32))  # (rows, 256, 3, 80)
        halved[:, start : start + _ROWS_AT_ONCE] = rows.reshape(len(rows), -1, ALBEDO_COUNT).transpose(2, 0, 1)
    return halved.reshape(ALBEDO_COUNT, -1)


def layout(folder: Path, vertex_count: int) -> dict[str, np.ndarray]:
    """The UV layout, rasterised; from the coordinates and the template mesh."""
    uv = _npy(folder, published.UV_COORDINATES).shaped(vertex_count, 2)
    if uv.dtype.kind != "f" or not np.isfinite(uv).all():
        raise PackDamaged(f"{published.UV_COORDINATES} holds values that are no coordinates; {published.REMEDY}.")
    faces = _Source(published.TEMPLATE_MESH, "faces", _obj_faces(folder / published.TEMPLATE_MESH)).indices(
        vertex_count, -1, 3
    )
    fragments = uv_fragments(np.asarray(uv), faces, MAP_SIZE)
    return {
        "uv.coordinates": uv.astype(np.float32),
        "uv.faces": faces,
        "uv.pixel_triangle": fragments.triangle,
        "uv.barycentric": fragments.barycentric,
    }


def _obj_faces(path: Path) -> np.ndarray:
    """(F, 3) int64 vertex numbers from 1 of an OBJ's faces; those with other corner counts than the first are left."""
    faces: list[list[int]] = []
    try:
        with path.open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                if line.startswith("f "):
                    face = [int(corner.split("/")[0]) for corner in line[2:].split()]
                    if not faces or len(face) == len(faces[0]):
                        faces.append(face)
    except ValueError as error:
        raise PackDamaged(
            f"{published.TEMPLATE_MESH} has a face that is no row of numbers; {published.REMEDY}."
        ) from error
    if not faces:
        raise PackDamaged(f"{published.TEMPLATE_MESH} has no faces; {published.REMEDY}.")
    return np.array(faces, np.int64)


def alignment(folder: Path) -> dict[str, np.ndarray]:
    """The points that a face is aligned to, and the box regressor."""
    points = _mat(folder, published.ALIGN_POINTS, "lm")["lm"].shaped(68, 3).astype(np.float64)
    regressor = _mat(folder, published.BOX_REGRESSOR, "W1", "B1", "W2", "B2")
    hidden = regressor["W1"].array.shape[0]
    shapes = {"W1": (-1, 2 * _SIDE_POINTS), "B1": (hidden, 1), "W2": (3, hidden), "B2": (3, 1)}
    boxes = {f"bbox.{name}": regressor[name].shaped(*shape).astype(np.float64) for name, shape in shapes.items()}
    return {"align.lm3d": five_points(points)} | boxes
