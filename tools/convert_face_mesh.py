"""Make hrn_opt/builtin/face_mesh.safetensors from the published canonical face OBJ.

    python tools/convert_face_mesh.py canonical-face-model.obj

The OBJ is google/mediapipe's canonical face model (Apache-2.0), shipped unchanged by npm `mind-ar` 1.2.5 (MIT) as
src/face-target/face-geometry/canonical-face-model.obj. Three things change on the way: centimetres become decimetres,
the UV is made exactly symmetric, and the mouth opening, which the published UV squeezes into a line, gets a patch of
its own above the forehead.
"""

import argparse
import hashlib
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

CM_TO_DM = 0.1

# Inner lip line, corner to corner, in the 468-point numbering; upper and lower run the same way.
UPPER_INNER_LIP = (191, 80, 81, 82, 13, 312, 311, 310, 415)
LOWER_INNER_LIP = (95, 88, 178, 87, 14, 317, 402, 318, 324)
LIP_CORNERS = (78, 308)

# The mouth patch: the layout leaves v > 0.893 free; symmetric about u = 0.5 so that mirroring stays an image flip.
PATCH_CENTRE_UV = (0.5, 0.952)
PATCH_HALF_SIZE_UV = (0.16, 0.034)


def read_obj(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vertices (468, 3) cm, UV per vertex (468, 2), triangles (898, 3)."""
    rows = [line.split() for line in path.read_text().splitlines() if line.strip()]
    vertices = np.array([row[1:4] for row in rows if row[0] == "v"], np.float64)
    uv_rows = np.array([row[1:3] for row in rows if row[0] == "vt"], np.float64)
    triangles = [[corner.split("/")[:2] for corner in row[1:]] for row in rows if row[0] == "f"]
    corners = np.array(triangles, np.int64) - 1  # (F, 3, 2) vertex and UV numbers
    uv = np.zeros((len(vertices), 2))
    uv[corners[..., 0].ravel()] = uv_rows[corners[..., 1].ravel()]
    return vertices, uv, corners[..., 0]


def mirror_indices(vertices: np.ndarray) -> np.ndarray:
    """(468,) index of each vertex's mirror image; the model is exactly symmetric in x."""
    mirrored = vertices * [-1, 1, 1]
    index = np.array([np.abs(mirrored - vertex).sum(1).argmin() for vertex in vertices])
    if np.abs(mirrored[index] - vertices).max() > 1e-6:
        raise SystemExit("the OBJ is not left-right symmetric: this is not the canonical face model")
    return index


def with_mouth_patch(uv: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """UV points (468 + 20, 2) and UV triangles (898, 3): the mouth's 18 triangles moved to a lens-shaped patch."""
    ring = (LIP_CORNERS[0], *UPPER_INNER_LIP, LIP_CORNERS[1], *LOWER_INNER_LIP)
    patch_of = {vertex: len(uv) + k for k, vertex in enumerate(ring)}
    angle = np.linspace(np.pi, 0, len(UPPER_INNER_LIP) + 2)[1:-1]
    arc = np.stack([np.cos(angle), np.sin(angle)], 1)  # (9, 2) upper arc, left to right
    lens = np.concatenate([[[-1, 0]], arc, [[1, 0]], arc * [1, -1]])
    patch_uv = np.array(PATCH_CENTRE_UV) + lens * PATCH_HALF_SIZE_UV
    uv_faces = faces.copy()
    mouth = np.isin(faces, ring).all(1)
    if mouth.sum() != 18:
        raise SystemExit(f"expected 18 mouth triangles, found {mouth.sum()}")
    uv_faces[mouth] = np.vectorize(patch_of.get)(faces[mouth])
    return np.concatenate([uv, patch_uv]), uv_faces


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("obj", type=Path)
    parser.add_argument("--out", type=Path, default=Path("hrn_opt/builtin/face_mesh.safetensors"))
    args = parser.parse_args()
    vertices, uv, faces = read_obj(args.obj)
    mirror = mirror_indices(vertices)
    uv = (uv + (uv[mirror] * [-1, 1] + [1, 0])) / 2
    uv_points, uv_faces = with_mouth_patch(uv, faces)
    arrays = {
        "vertices": (vertices * CM_TO_DM).astype(np.float32),
        "faces": faces.astype(np.int16),
        "uv_points": uv_points.astype(np.float32),
        "uv_faces": uv_faces.astype(np.int16),
    }
    source = f"npm mind-ar 1.2.5 {args.obj.name} sha256 {hashlib.sha256(args.obj.read_bytes()).hexdigest()}"
    save_file(arrays, args.out, metadata={"source": source, "licence": "Apache-2.0 (google/mediapipe)"})


if __name__ == "__main__":
    main()
