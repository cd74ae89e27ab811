"""A made-up pack in the published layout, from a seed: for tests, benchmarks, and machines without the real one.

Names, keys, shapes and value ranges are the published ones; the face is a smooth height field, the weights are random.
A small one has the same files and narrower networks, and less of a face.  python -m testing.synthetic_pack.pack DIR
"""

from __future__ import annotations

import argparse
import struct
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from hrn_opt.errors import OptionInvalid
from hrn_opt.hrn.pack import published
from hrn_opt.hrn.pack.assets import ALBEDO_COUNT, EXPRESSION_COUNT, IDENTITY_COUNT
from testing.synthetic_pack import networks
from testing.synthetic_pack.mask_graph import skin_graph

_ALBEDO_PX = 512
_MODES = 6  # cosines along each axis that smooth fields are made of
_ROWS_AT_ONCE = 32
_FACES_PER_POINT = 8
_MEAN_RGB, _MEAN_DEVIATION, _ALBEDO_DEVIATION = (195.0, 150.0, 128.0), 12.0, 4.0  # grey levels
_IDENTITY_DEVIATION, _EXPRESSION_DEVIATION = 0.012, 0.008  # decimetres
_UV_MARGIN, _UV_JITTER = 0.02, 8e-4  # the jitter keeps texel centres off the triangles' edges
_POINTS_ON_HEATMAP_PX = 18.0  # of half the template face's width


@dataclass(frozen=True)
class PackSize:
    """How large a made-up pack is.

    grid: vertices a side of the height field.
    vertices: how many of its grid² are kept.
    width: of the networks.
    pyramid: RetinaFace's channels.
    hidden: of the box regressor.
    albedo_rows: rows of the albedo basis that differ from 0 (the file has holes elsewhere).
    junk_values: floats of training leftovers in pytorch_model.pt.
    """

    grid: int
    vertices: int
    width: int
    pyramid: int
    hidden: int
    albedo_rows: int
    junk_values: int
    fan: networks.FanSize


SIZES = {
    "full": PackSize(189, 35709, 64, 256, 200, _ALBEDO_PX, 43_000_000, networks.FanSize(256, 10)),
    # Above 64 pyramid channels the published RetinaFace has no leaky activations.
    "small": PackSize(41, 1669, 8, 68, 16, _ROWS_AT_ONCE, 1000, networks.FanSize(8, 1)),
}


@dataclass(frozen=True)
class _Face:
    """vertices: (N, 3) float64, decimetres.
    faces: (F, 3) int64.
    uv: (N, 2) float64.
    keypoints: (68,) int64.
    """

    vertices: np.ndarray
    faces: np.ndarray
    uv: np.ndarray
    keypoints: np.ndarray


def write_pack(
    folder: Path, seed: int, *, size: str = "small", detectors: bool = True, uv_dtype: str = "float64"
) -> Path:
    """`folder`, filled with a made-up published pack.

    size: "small" (20 MB on disk) or "full" (as published).
    detectors: also what finds faces, and the skin mask.
    uv_dtype: "float64" as published, or "float32".
    """
    if size not in SIZES:
        raise OptionInvalid(f"size={size!r} is not known; use {' or '.join(map(repr, SIZES))}.")
    for name in ("assets", "face_alignment"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    face = _face(random, SIZES[size])
    _write_assets(folder, random, face, SIZES[size], uv_dtype)
    _write_networks(folder, seed, SIZES[size])
    if detectors:
        _write_detectors(folder, seed, SIZES[size])
        (folder / published.MASK_GRAPH).write_bytes(skin_graph(seed))
    return folder


def _face(random: np.random.Generator, size: PackSize) -> _Face:
    along = np.linspace(-1, 1, size.grid)
    down, across = (axis.ravel()[: size.vertices] for axis in np.meshgrid(-along, along, indexing="ij"))
    x, y = 0.78 * across, 1.02 * down
    z = 0.85 * np.sqrt(np.clip(1.05 - (x / 0.95) ** 2 - (y / 1.3) ** 2, 0.02, None))
    for height, cx, cy, rx, ry in _BUMPS:
        z = z + height * np.exp(-(((x - cx) / rx) ** 2) - ((y - cy) / ry) ** 2)
    index = np.arange(size.grid**2).reshape(size.grid, size.grid)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:]
    faces = np.concatenate([np.stack(corners, -1).reshape(-1, 3) for corners in ((a, c, b), (b, c, d))])
    uv = _UV_MARGIN + (1 - 2 * _UV_MARGIN) * (np.stack([across, down], 1) + 1) / 2
    uv = uv + random.uniform(-_UV_JITTER, _UV_JITTER, uv.shape)
    keypoints = ((np.stack([x, y], 1)[None] - face_points()[:, None]) ** 2).sum(-1).argmin(1)
    return _Face(np.stack([x, y, z], 1), faces[(faces < size.vertices).all(1)], uv, keypoints)


# Nose, eye hollows and mouth: height, centre x and y, radii, all decimetres.
_BUMPS = (
    (0.22, 0.0, -0.05, 0.11, 0.22),
    (-0.10, -0.3, 0.25, 0.13, 0.08),
    (-0.10, 0.3, 0.25, 0.13, 0.08),
    (0.06, 0.0, -0.45, 0.2, 0.06),
)


def face_points() -> np.ndarray:
    """(68, 2) x and y (up) in decimetres of the 68 points on the made-up face: jaw, brows, nose, eyes, mouth."""
    jaw = np.pi * np.arange(17) / 16
    bridge = np.arange(4) * 0.1
    nostrils, brow = np.arange(5), 0.1 * np.arange(5)
    eye, outer, inner = (np.pi - np.arange(count) * 2 * np.pi / count for count in (6, 12, 8))
    parts = [
        (-0.72 * np.cos(jaw), 0.25 - 1.1 * np.sin(jaw)),
        (-0.55 + brow, np.full(5, 0.5)),
        (0.15 + brow, np.full(5, 0.5)),
        (np.zeros(4), 0.3 - bridge),
        (-0.12 + 0.06 * nostrils, np.full(5, -0.13)),
        (-0.3 + 0.12 * np.cos(eye), 0.27 + 0.05 * np.sin(eye)),
        (0.3 + 0.12 * np.cos(eye), 0.27 + 0.05 * np.sin(eye)),
        (0.25 * np.cos(outer), -0.45 + 0.1 * np.sin(outer)),
        (0.2 * np.cos(inner), -0.45 + 0.05 * np.sin(inner)),
    ]
    return np.concatenate([np.stack(part, 1) for part in parts])


def _smooth_fields(random: np.random.Generator, places: np.ndarray, count: int) -> np.ndarray:
    """(len(places), count) float32 random smooth fields over places (P, 2) in 0..1, mean about 0, deviation 1."""
    waves = [np.cos(np.pi * np.outer(axis, np.arange(_MODES))) for axis in places.T]  # (P, modes) each
    products = (waves[0][:, :, None] * waves[1][:, None, :]).reshape(len(places), -1)[:, 1:]
    fields = products @ random.normal(size=(_MODES**2 - 1, count))
    return ((fields - fields.mean(0)) / fields.std(0)).astype(np.float32)


def _shape_basis(random: np.random.Generator, face: _Face, count: int, deviation: float) -> np.ndarray:
    """(3N, count) float32."""
    fields = _smooth_fields(random, face.uv, 3 * count).reshape(-1, 3 * count)
    return deviation * fields.reshape(len(face.uv) * 3, count)


def _write_assets(folder: Path, random: np.random.Generator, face: _Face, size: PackSize, uv_dtype: str) -> None:
    count = len(face.vertices)
    model = {
        "meanshape": face.vertices.reshape(1, -1) + 0.01,  # off its centre: to be recentred
        "idBase": _shape_basis(random, face, IDENTITY_COUNT, _IDENTITY_DEVIATION),
        "exBase": _shape_basis(random, face, EXPRESSION_COUNT, _EXPRESSION_DEVIATION),
        "texBase": _shape_basis(random, face, ALBEDO_COUNT, _ALBEDO_DEVIATION),
        "meantex": np.full((1, 3 * count), 150, np.float32),
        "tri": face.faces + 1,
        "point_buf": _point_faces(face) + 1,
        "keypoints": face.keypoints[None] + 1,
    }
    write_mat(folder / published.MORPHABLE_MODEL, model)
    write_mat(folder / published.ALIGN_POINTS, {"lm": face.vertices[face.keypoints]})
    write_mat(folder / published.BOX_REGRESSOR, _box_regressor(random, size.hidden))
    np.save(folder / published.UV_COORDINATES, face.uv.astype(uv_dtype))
    _write_albedo(folder, random, size.albedo_rows)
    lines = [f"v {x:.6f} {y:.6f} {z:.6f}\n" for x, y, z in face.vertices]
    lines += [f"f {a} {b} {c}\n" for a, b, c in face.faces + 1]
    (folder / published.TEMPLATE_MESH).write_text("".join(lines), encoding="ascii")


def _point_faces(face: _Face) -> np.ndarray:
    """(N, 8) int64 triangles round each vertex, padded with one past the last."""
    vertex = face.faces.reshape(-1)
    order = np.argsort(vertex, kind="stable")
    sorted_vertex = vertex[order]
    starts = np.searchsorted(sorted_vertex, np.arange(len(face.vertices)))
    place = np.arange(len(order)) - starts[sorted_vertex]
    padded = np.full((len(face.vertices), _FACES_PER_POINT), len(face.faces), np.int64)
    fits = place < _FACES_PER_POINT
    padded[sorted_vertex[fits], place[fits]] = order[fits] // 3
    return padded


def _box_regressor(random: np.random.Generator, hidden: int) -> dict[str, np.ndarray]:
    """A box about 5.6 times as wide as five points' spread, round their middle; it hardly minds where they lie."""
    turn = random.normal(size=(3, hidden)) * np.array([[0.05], [0.05], [2.0]]) * (4 / np.sqrt(hidden))
    return {
        "W1": random.normal(size=(hidden, 2 * 5)) * 0.3,
        "B1": random.normal(size=(hidden, 1)) * 0.1,
        "W2": turn,
        "B2": np.array([[-3.0], [-3.2], [40.0]]),
    }


def _write_albedo(folder: Path, random: np.random.Generator, rows: int) -> None:
    side = (np.arange(_ALBEDO_PX) + 0.5) / _ALBEDO_PX
    waves = np.cos(np.pi * np.outer(side, np.arange(_MODES))).astype(np.float32)  # (512, modes)
    mean = np.einsum("ym,xn,mnc->yxc", waves, waves, random.normal(size=(_MODES, _MODES, 3)))
    mean = _MEAN_RGB + _MEAN_DEVIATION * (mean - mean.mean((0, 1))) / mean.std((0, 1))
    np.save(folder / published.ALBEDO_MEAN, mean.astype(np.float32))
    amplitude = random.normal(size=(_MODES, _MODES, 3 * ALBEDO_COUNT)).astype(np.float32)
    amplitude *= _ALBEDO_DEVIATION * 2 / _MODES  # a product of two cosines has a deviation of about 1/2
    basis = np.lib.format.open_memmap(
        folder / published.ALBEDO_BASIS, mode="w+", dtype=np.float32, shape=(_ALBEDO_PX, _ALBEDO_PX, 3, ALBEDO_COUNT)
    )
    first = (_ALBEDO_PX - rows) // 2
    for start in range(first, first + rows, _ROWS_AT_ONCE):
        block = np.tensordot(waves[start : start + _ROWS_AT_ONCE], amplitude, 1)  # (32, modes, 240)
        basis[start : start + _ROWS_AT_ONCE] = np.matmul(waves, block).reshape(-1, _ALBEDO_PX, 3, ALBEDO_COUNT)
    basis.flush()


def _write_networks(folder: Path, seed: int, size: PackSize) -> None:
    weights = networks.Weights(seed)
    first, second = (weights.normal(1e-3, size.junk_values // 2) for _ in range(2))
    checkpoint = {
        "net_recon": networks.recon_state(seed + 1, size.width),
        "mid_net": networks.generator_state(seed + 2, size.width, 6, 3),
        "high_net": networks.generator_state(seed + 3, size.width, 9, 1),
        "alpha": torch.full((1,), 0.1),
        "beta": torch.full((1,), 0.02),
        "opt_00": {"state": {0: {"step": 9, "exp_avg": first, "exp_avg_sq": second}}, "param_groups": [{"lr": 1e-4}]},
        "sched_00": {"last_epoch": 3, "_last_lr": [np.float64(1e-4)]},
    }
    torch.save(checkpoint, folder / published.WEIGHTS)
    torch.save({"generator": networks.unet_state(seed + 4, size.width)}, folder / published.RETOUCH_WEIGHTS)


def _write_detectors(folder: Path, seed: int, size: PackSize) -> None:
    landmarks = {f"module.{name}": value for name, value in networks.landmarks106_state(seed + 5, size.width).items()}
    landmarks |= {"module.unused.weight": networks.Weights(seed).normal(1, size.junk_values // 10)}
    torch.save({"state_dict": landmarks, "epoch": 7}, folder / published.LANDMARKS106_WEIGHTS)
    # Published in the file format of torch before 1.6, which cannot be mapped.
    for path, state in (
        (published.RETINAFACE_WEIGHTS, networks.retinaface_state(seed + 6, size.width, size.pyramid)),
        (published.S3FD_WEIGHTS, networks.s3fd_state(seed + 7, size.width)),
    ):
        torch.save(state, folder / path, _use_new_zipfile_serialization=False)
    points = 32 + _POINTS_ON_HEATMAP_PX * torch.from_numpy(face_points() * [1, -1]).float()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning, module="torch.jit")
        networks.fan_archive(seed + 8, points, size.fan).save(str(folder / published.FAN_ARCHIVE))


def write_mat(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """A MATLAB 5 file of 2-D arrays, uncompressed; hrn_opt.hrn.pack.matfile reads it."""
    kinds = {"float64": (6, 9), "float32": (7, 7), "int64": (14, 12)}  # array class, stored type
    content = [b"MATLAB 5.0 MAT-file".ljust(124), struct.pack("<H2s", 0x0100, b"IM")]
    for name, array in arrays.items():
        array_class, stored = kinds[str(array.dtype)]
        parts = [
            _mat_element(6, struct.pack("<II", array_class, 0)),
            _mat_element(5, struct.pack("<ii", *array.shape)),
            _mat_element(1, name.encode("ascii")),
            _mat_element(stored, array.tobytes(order="F")),
        ]
        content.append(_mat_element(14, b"".join(parts)))
    path.write_bytes(b"".join(content))


def _mat_element(kind: int, content: bytes) -> bytes:
    return struct.pack("<II", kind, len(content)) + content + bytes(-len(content) % 8)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m testing.synthetic_pack.pack", description="Write a made-up HRN pack.", allow_abbrev=False
    )
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--size", choices=tuple(SIZES), default="full")
    options = parser.parse_args(argv)
    sys.stdout.write(f"{write_pack(options.folder, options.seed, size=options.size)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
