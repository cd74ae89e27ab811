"""Three routes to a skin mask, and which one is taken."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from hrn_opt.errors import PackDamaged
from hrn_opt.hrn.align.skin_mask import MaskResult, OnnxMask, SkinMask, outline_mask

DATA = Path(__file__).parents[2] / "data" / "mask"
KEPT = np.unique([*range(0, 224, 3), 223])  # rows and columns that are stored
TOLERANCE = 0.02  # of 0..255; measured 1.3e-3 (graph) and 2.5e-3 (onnx), sums in another order


@pytest.fixture(scope="module")
def masks() -> dict[str, np.ndarray]:
    return dict(np.load(DATA / "masks.npz"))


@pytest.fixture
def landmarks() -> torch.Tensor:
    """68 points of a made-up face: jaw from ear to ear, brows above; the inner points only fill the array."""
    angles = torch.linspace(0, torch.pi, 17)
    jaw = torch.stack([112 - 70 * angles.cos(), 100 + 90 * angles.sin()], 1)
    brows = torch.stack([torch.linspace(55, 165, 10), torch.full((10,), 75.0)], 1)
    return torch.cat([jaw, brows, torch.full((41, 2), 112.0)])


def pack(folder: Path, graph: str | None = None, onnx: str | None = None) -> Path:
    if graph:
        shutil.copy(DATA / graph, folder / "segment_face.pb")
    if onnx:
        shutil.copy(DATA / onnx, folder / "segment_face.onnx")
    return folder


def open_mask(folder: Path) -> SkinMask:
    return SkinMask.open(folder / "segment_face.pb", folder / "segment_face.onnx")


def made(folder: Path, masks, landmarks) -> MaskResult:
    with torch.inference_mode():
        return open_mask(folder)(torch.from_numpy(masks["images"][1]), landmarks)


def error(result: MaskResult, expected: np.ndarray) -> float:
    return float(np.abs(result.values.numpy()[np.ix_(KEPT, KEPT)] - expected).max())


def test_graph_comes_first(tmp_path, masks, landmarks):
    result = made(pack(tmp_path, "unet.pb", "unet.onnx"), masks, landmarks)
    assert (result.source, result.note) == ("graph", "")
    assert error(result, masks["unet"][1]) < TOLERANCE


def test_onnx_comes_second(tmp_path, masks, landmarks):
    pytest.importorskip("onnxruntime")
    result = made(pack(tmp_path, "loop.pb", "loop.onnx"), masks, landmarks)
    assert result.source == "onnx"
    assert "NextIteration" in result.note
    assert error(result, masks["loop"][1]) < TOLERANCE


def test_onnx_stands_in_for_a_missing_graph(tmp_path, masks, landmarks):
    pytest.importorskip("onnxruntime")
    result = made(pack(tmp_path, onnx="unet.onnx"), masks, landmarks)
    assert result.source == "onnx" and "segment_face.pb is not in" in result.note
    assert error(result, masks["unet"][1]) < TOLERANCE


def test_outline_comes_third(tmp_path, masks, landmarks):
    result = made(pack(tmp_path, "decides.pb"), masks, landmarks)
    assert result.source == "outline"
    assert "Switch" in result.note and "There is no segment_face.onnx" in result.note
    assert torch.equal(result.values, outline_mask(landmarks))


def test_outline_without_onnxruntime(tmp_path, masks, landmarks, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    result = made(pack(tmp_path, "loop.pb", "unet.onnx"), masks, landmarks)
    assert result.source == "outline" and "onnxruntime is not installed" in result.note


def test_a_foreign_or_damaged_graph_leads_to_the_next_route_and_is_told_of(tmp_path):
    assert "head_alpha" in open_mask(pack(tmp_path, "foreign.pb")).note
    (tmp_path / "segment_face.pb").write_bytes((DATA / "unet.pb").read_bytes()[:-40])
    (tmp_path / "segment_face.onnx").write_bytes(b"no model")
    mask = open_mask(tmp_path)
    assert mask.source == "outline" and "cut short" in mask.note
    assert SkinMask.open(tmp_path / "gone.pb", tmp_path / "gone.onnx", "It was refused.").note.startswith("It was ref")


def test_damaged_onnx_is_named(tmp_path):
    pytest.importorskip("onnxruntime")
    content = (DATA / "unet.onnx").read_bytes()
    for kept in (0, 100, len(content) // 2):
        (tmp_path / "segment_face.onnx").write_bytes(content[:kept])
        with pytest.raises(PackDamaged, match=r"segment_face.onnx cannot be loaded.*convert_mask.py"):
            OnnxMask(tmp_path / "segment_face.onnx")


def test_outline_covers_the_face_and_nothing_else(landmarks):
    mask = outline_mask(landmarks)
    assert mask.dtype == torch.float32 and mask.shape == (224, 224)
    assert mask.min() == 0 and mask.max() == 255
    assert mask[130, 112] == 255 and mask[205, 112] == 0  # (row, column): cheek height; below the chin
    assert mask[60, 112] == 255, "skin above the brows belongs to the face"
    assert mask[15, 112] == 0
    edge = mask[130][(mask[130] > 5) & (mask[130] < 250)]
    assert 4 <= len(edge) <= 24, "two soft edges, not two steps"


def test_outline_is_where_the_points_are(landmarks):
    """Moved by whole pixels it moves by as much: no axis is swapped, no scale is off."""
    moved = outline_mask(landmarks + torch.tensor([9.0, -4.0]))
    assert torch.equal(moved[10:190, 30:200], outline_mask(landmarks)[14:194, 21:191])
    left, right = (torch.nonzero(outline_mask(landmarks)[110] > 127).flatten()[[0, -1]] + 0.5).tolist()
    assert abs((left + right) / 2 - 112) < 0.51  # the face is symmetric about x = 112


def test_outline_refuses_wrong_points(landmarks):
    with pytest.raises(ValueError, match="68, 2"):
        outline_mask(landmarks[:, :1])
    with pytest.raises(ValueError, match="finite"):
        outline_mask(landmarks * float("nan"))


def test_result_checks_its_values():
    with pytest.raises(ValueError, match="224, 224"):
        MaskResult(torch.zeros(224, 223), "outline")
