"""The golden case: one photo through the published model, stored, against ours on the same full-size pack.

The case and the scripts that made it and its pack lie in tests/data/golden. The bounds tell a wrong bilinear weight, a
halved smoothness weight and a missing erosion from rounding.
"""

from __future__ import annotations

import contextlib
import io
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import hrn_opt
from hrn_opt.hrn.pack.prepare import prepare
from hrn_opt.types import Reconstruction
from tests.data.golden.make_case import NUDGE_PX
from tests.data.golden.make_pack import build
from tests.oracle.official_stages import need_official

pytestmark = [pytest.mark.slow, pytest.mark.oracle]

CASE, SEED = Path(__file__).resolve().parents[1] / "data" / "golden" / "seed11-case1.npz", 11


@pytest.fixture(scope="module")
def case() -> SimpleNamespace:
    """image, landmarks and mask of the case; coeffs, deformation, displacement, vertices, normals and texture_bgr."""
    with np.load(CASE) as arrays:
        return SimpleNamespace(**arrays)


@pytest.fixture(scope="module")
def golden_pack(case, tmp_path_factory) -> Path:
    """The case's pack, prepared; made through the published modules, 0.5 GB while it is there."""
    need_official()
    folder = tmp_path_factory.mktemp("golden")
    with contextlib.redirect_stdout(io.StringIO()):  # the published modules announce themselves
        build(folder / "published", SEED)
    prepared = prepare(folder / "published", folder / "prepared")
    shutil.rmtree(folder / "published")
    yield prepared
    shutil.rmtree(folder)


def reconstructed(pack: Path, case: SimpleNamespace, precision: str) -> Reconstruction:
    model = hrn_opt.load(str(pack), device="cpu", precision=precision)
    known = {"landmarks": case.landmarks - NUDGE_PX + 0.5, "skin_mask": case.mask, "cheek_widening": 0.0}
    return model.reconstruct(hrn_opt.Photo(case.image), want="detail", texture_size=256, **known)


@pytest.fixture(scope="module")
def exact(golden_pack, case) -> Reconstruction:
    return reconstructed(golden_pack, case, "fp32")


def largest(found: torch.Tensor, expected: np.ndarray) -> float:
    assert tuple(found.shape) == expected.shape
    return float(np.abs(found.numpy() - expected).max())


def test_coefficients(exact, case):
    assert largest(exact.coefficients[None], case.coeffs) <= 5e-6


def test_vertices(exact, case):
    assert largest(exact.mesh.vertices, case.vertices) <= 1e-4  # decimetres


def test_normals(exact, case):
    """By angle. Where the made-up face is as rough as its triangles are small, rounding turns a normal by more."""
    cosine = (exact.mesh.normals.numpy() * case.normals).sum(1)
    degrees = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
    assert np.percentile(degrees, 99) <= 0.2 and degrees.mean() <= 0.05


def test_deformation_and_displacement(exact, case):
    assert largest(exact.deformation, case.deformation) <= 1e-4
    assert largest(exact.displacement, case.displacement) <= 2e-4


def test_texture(exact, case):
    """Grey levels before clipping. Its maximum is left free: folded triangles turn rounding into single steps of 10."""
    expected = case.texture_bgr[..., ::-1]
    assert exact.texture_256.shape == expected.shape == (256, 256, 3)
    difference = np.abs(exact.texture_256.numpy() * 255 - expected)
    assert difference.mean() <= 0.08
    assert np.percentile(difference, 99) <= 0.7
    assert np.percentile(difference, 99.9) <= 1.5
    assert expected.min() < 0 and expected.max() > 255  # so a clipped texture would not pass
    np.testing.assert_array_equal(exact.texture.rgb, (exact.texture_256 * 255).round().clamp(0, 255).byte().numpy())


def test_half_precision_stays_close(golden_pack, case, exact):
    half = reconstructed(golden_pack, case, "bf16")
    error = (half.texture_256 - exact.texture_256).square().mean()
    assert error > 0 and 10 * torch.log10(1 / error) >= 58  # decibels
    assert largest(half.mesh.vertices, exact.mesh.vertices.numpy()) <= 1e-4
