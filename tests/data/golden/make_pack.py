"""Write the golden case's pack: the published layout, filled with seeded random numbers.

File names, keys, shapes and ranges of values are those of the published pack. The networks' weights are drawn through
the published modules, so that their keys and shapes cannot be wrong; the morphable model is a smooth, face-like height
field. The order of the draws is part of the case: another order gives another pack.

    python tests/data/golden/make_pack.py FOLDER [--seed 11]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from scipy.io import savemat
from torch import nn

GRID = 189  # vertices a side, of which the last few are cut off
VERTICES = 35709  # as the published morphable model has
TEXTURE_PX = 512
SKIN_RGB = (195, 150, 128)


def build(folder: str | Path, seed: int) -> Path:
    """The folder, with the published pack's files in it. Needs modelscope and the packages that its module imports."""
    folder = Path(folder)
    assets = folder / "assets"
    assets.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    vertices, triangles, uv = face_grid(rng)
    _write_morphable_model(assets, rng, vertices, triangles, uv)
    _write_regressor(assets, rng)
    np.save(assets / "bfm_uvs2.npy", uv)
    _write_textures(assets, rng)
    with open(assets / "template_bfm.obj", "w") as lines:
        lines.writelines(f"v {x:.6f} {y:.6f} {z:.6f}\n" for x, y, z in vertices)
        lines.writelines(f"f {a} {b} {c}\n" for a, b, c in triangles + 1)
    _write_networks(folder)
    return folder


def face_grid(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vertices (V, 3) decimetres, triangles (T, 3) and UV coordinates (V, 2) of a height field with a face's relief."""
    ys, xs = np.meshgrid(np.linspace(1.0, -1.0, GRID), np.linspace(-1.0, 1.0, GRID), indexing="ij")
    x, y = 0.78 * xs, 1.02 * ys

    def bump(centre_x, centre_y, width, height):
        return np.exp(-(((x - centre_x) / width) ** 2) - ((y - centre_y) / height) ** 2)

    z = 0.85 * np.sqrt(np.clip(1.05 - (x / 0.95) ** 2 - (y / 1.3) ** 2, 0.02, None))
    z = z + 0.22 * bump(0, -0.05, 0.11, 0.22)  # nose
    z = z - 0.10 * bump(-0.3, 0.25, 0.13, 0.08) - 0.10 * bump(0.3, 0.25, 0.13, 0.08)  # eyes
    z = z + 0.06 * bump(0, -0.45, 0.2, 0.06)  # mouth
    vertices = np.stack([x, y, z], -1).reshape(-1, 3)[:VERTICES]
    number = np.arange(GRID * GRID).reshape(GRID, GRID)
    a, b, c, d = number[:-1, :-1], number[:-1, 1:], number[1:, :-1], number[1:, 1:]
    halves = [np.stack(corners, -1).reshape(-1, 3) for corners in ((a, c, b), (b, c, d))]
    triangles = np.concatenate(halves)
    triangles = triangles[(triangles < VERTICES).all(1)]
    uv = np.stack([0.02 + 0.96 * (xs + 1) / 2, 0.02 + 0.96 * (ys + 1) / 2], -1).reshape(-1, 2)[:VERTICES]
    uv = uv + rng.uniform(-8e-4, 8e-4, uv.shape)  # no texel's centre lies exactly on an edge
    return vertices.astype(np.float64), triangles, uv.astype(np.float32)


def smooth_fields(rng: np.random.Generator, points: np.ndarray, count: int) -> np.ndarray:
    """(count, N) float32: random sums of six low cosines at points (N, 2) in 0..1; mean 0, deviation 1 each."""
    fields = np.zeros((count, len(points)), np.float32)
    for field in fields:
        total = 0
        for _ in range(6):
            across, down, phase = rng.integers(0, 6), rng.integers(0, 6), rng.uniform(0, 6.28)
            total = total + rng.normal() * np.cos(np.pi * (across * points[:, 0] + down * points[:, 1]) + phase)
        field[:] = (total - total.mean()) / (total.std() + 1e-6)
    return fields


def _write_morphable_model(assets, rng, vertices, triangles, uv) -> None:
    def basis(count, size):
        axes = [smooth_fields(rng, uv, count) for _ in range(3)]
        return np.stack(axes, -1).transpose(1, 2, 0).reshape(-1, count) * size

    identity, expression = basis(80, 0.012), basis(64, 0.008)
    colour = basis(80, 4.0)
    keypoints = ((vertices[None, :, :2] - _landmark_places()[:, None]) ** 2).sum(-1).argmin(1)
    mean_colour = np.stack([smooth_fields(rng, uv, 1)[0] * 12 + level for level in SKIN_RGB], -1).reshape(1, -1)
    model = {
        "meanshape": vertices.reshape(1, -1),
        "idBase": identity,
        "exBase": expression,
        "texBase": colour,
        "meantex": mean_colour,
        "tri": triangles + 1,
        "point_buf": _triangles_at_each_vertex(triangles) + 1,
        "keypoints": keypoints[None] + 1,
        "tri_mask2": triangles[:100] + 1,
        "frontmask2_idx": np.arange(1, 100)[:, None],
        "skinmask": np.ones((1, VERTICES)),
    }
    savemat(assets / "BFM_model_front.mat", model)
    savemat(assets / "similarity_Lm3D_all.mat", {"lm": vertices[keypoints]})


def _triangles_at_each_vertex(triangles: np.ndarray) -> np.ndarray:
    """(V, 8): at most eight triangles at each vertex, padded with the number of triangles."""
    table, used = np.full((VERTICES, 8), len(triangles), np.int64), np.zeros(VERTICES, int)
    for number, corners in enumerate(triangles):
        for vertex in corners:
            if used[vertex] < 8:
                table[vertex, used[vertex]] = number
                used[vertex] += 1
    return table


def _landmark_places() -> np.ndarray:
    """(68, 2): x and y of the usual 68 points on the height field: jaw, brows, nose, eyes, mouth."""
    turn = np.pi * np.arange(17) / 16
    places = [(-0.72 * np.cos(t), 0.25 - 1.1 * np.sin(t)) for t in turn]
    places += [(-0.55 + 0.1 * i, 0.5) for i in range(5)] + [(0.15 + 0.1 * i, 0.5) for i in range(5)]
    places += [(0, 0.3 - 0.1 * i) for i in range(4)] + [(-0.12 + 0.06 * i, -0.13) for i in range(5)]
    for side in (-1, 1):
        eye = np.pi - np.arange(6) * np.pi / 3
        places += [(side * 0.3 + 0.12 * np.cos(t), 0.27 + 0.05 * np.sin(t)) for t in eye]
    places += [(0.25 * np.cos(t), -0.45 + 0.1 * np.sin(t)) for t in np.pi - np.arange(12) * np.pi / 6]
    places += [(0.2 * np.cos(t), -0.45 + 0.05 * np.sin(t)) for t in np.pi - np.arange(8) * np.pi / 4]
    return np.array(places)


def _write_regressor(assets: Path, rng: np.random.Generator) -> None:
    hidden = 16
    weights = {"W1": rng.normal(size=(hidden, 10)) * 0.3, "B1": rng.normal(size=(hidden, 1)) * 0.1}
    weights["W2"] = np.concatenate([rng.normal(size=(2, hidden)) * 0.05, rng.normal(size=(1, hidden)) * 2])
    weights["B2"] = np.array([[-3.0], [-3.2], [40.0]])
    savemat(assets / "BBRegressorParam_r.mat", weights)


def _write_textures(assets: Path, rng: np.random.Generator) -> None:
    steps = np.linspace(0, 1, TEXTURE_PX)
    down, across = np.meshgrid(steps, steps, indexing="ij")
    texels = np.stack([across, down], -1)
    mean = [smooth_fields(rng, texels.reshape(-1, 2), 1)[0] * 12 + level for level in SKIN_RGB]
    mean = np.stack(mean, -1).reshape(TEXTURE_PX, TEXTURE_PX, 3)
    np.save(assets / "bfm_tex_mean2.npy", mean.astype(np.float32))
    base = np.empty((TEXTURE_PX, TEXTURE_PX, 3, 80), np.float32)
    coarse_px = TEXTURE_PX // 8
    for channel in range(3):
        fields = smooth_fields(rng, texels[::8, ::8].reshape(-1, 2), 80).reshape(80, 1, coarse_px, coarse_px)
        fields = torch.from_numpy(fields) * 4
        large = nn.functional.interpolate(fields, (TEXTURE_PX, TEXTURE_PX), mode="bicubic")
        base[:, :, channel] = large[:, 0].permute(1, 2, 0).numpy()
    np.save(assets / "bfm_texmap_base2.npy", base)


def _write_networks(folder: Path) -> None:
    from modelscope.models.cv.face_reconstruction.models.facelandmark.nets.large_base_lmks_net import LargeBaseLmksNet
    from modelscope.models.cv.face_reconstruction.models.networks import define_net_recon
    from modelscope.models.cv.face_reconstruction.models.pix2pix.networks import define_G
    from modelscope.models.cv.face_reconstruction.models.unet import UNet

    recon = _randomise(define_net_recon("resnet50", use_last_fc=False, init_path=None))
    _set_heads(recon)
    generators = {
        name: _randomise(define_G(channels, out, 64, "resnet_9blocks", "instance", True, "normal", 0.02, []))
        for name, channels, out in (("mid_net", 6, 3), ("high_net", 9, 1))
    }
    state = {"net_recon": recon.state_dict()} | {name: net.state_dict() for name, net in generators.items()}
    state |= {"alpha": torch.full((1,), 0.1), "beta": torch.full((1,), 0.02)}
    torch.save(state, folder / "pytorch_model.pt")
    torch.save({"generator": _randomise(UNet(3, 3)).state_dict()}, folder / "de_retouching_model.pth")
    landmarks = _randomise(LargeBaseLmksNet(infer=False)).state_dict()
    torch.save(
        {"state_dict": {f"module.{key}": value for key, value in landmarks.items()}}, folder / "large_base_net.pth"
    )


def _randomise(network: nn.Module) -> nn.Module:
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.6, 1.4)
            nn.init.uniform_(module.weight, 0.5, 1.0)
            nn.init.normal_(module.bias, 0, 0.05)
    return network.eval()


@torch.no_grad()
def _set_heads(recon: nn.Module) -> None:
    """Heads whose coefficients have the deviations of real faces, over a backbone whose residuals do not grow."""
    for name, module in recon.backbone.named_modules():
        if name.endswith("bn3"):
            nn.init.uniform_(module.weight, 0.1, 0.3)
    features = recon.backbone(torch.rand(2, 3, 224, 224)).flatten(1)
    deviations = (0.7, 0.5, 0.7, 0.08, 0.05, 0.05, 0.05)  # identity, expression, colour, angles, light, x and y, z
    for layer, deviation in zip(recon.final_layers, deviations, strict=True):
        layer.weight.normal_(0, deviation / float(features.norm(dim=1).mean()))
        layer.bias.normal_(0, deviation * 0.3)
    recon.final_layers[-1].bias.fill_(0.0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--seed", type=int, default=11)
    asked = parser.parse_args()
    print(build(asked.folder, asked.seed))
