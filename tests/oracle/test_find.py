"""Finding faces, held against the published pipeline with seeded random weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from hrn_opt.hrn.exact import opencv_resize
from hrn_opt.hrn.find.boxes import detect
from hrn_opt.hrn.find.faces import FindNetworks, closer_points, find_faces, working_photo
from hrn_opt.hrn.find.landmarks import FIVE_OF_106, BoxRegressor, best_faces
from hrn_opt.hrn.networks import landmarks106, retinaface, s3fd
from hrn_opt.hrn.networks.folding import load_network
from tests.oracle.official_find import OfficialFinder, official_modules, waving_picture

pytestmark = pytest.mark.oracle

# Of the outputs' standard deviation; measured 1.6e-5, 3e-5 and 2e-5 (folded batch norms, another order of sums).
NETWORK_ERROR = 2e-4


@pytest.fixture(scope="module")
def modules():
    return official_modules()


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    return waving_picture(np.random.default_rng(7), (430, 610))


@pytest.fixture(scope="module")
def finder(modules, photo) -> OfficialFinder:
    with torch.no_grad():
        return OfficialFinder(modules, photo, seed=3)


@pytest.fixture(scope="module")
def ours(finder) -> FindNetworks:
    prefixed = {f"module.{key}": value for key, value in finder.landmarks.state_dict().items()}
    return FindNetworks(
        load_network(retinaface.RetinaFace, retinaface.from_official(finder.detector.model.state_dict())),
        load_network(landmarks106.Landmarks106, landmarks106.from_official(prefixed)),
        load_network(s3fd.S3FD, s3fd.from_official(finder.s3fd.state_dict())),
        finder.fan,
        BoxRegressor(*(finder.regressor[name] for name in ("W1", "B1", "W2", "B2"))),
    )


def assert_near(got: Tensor, want: Tensor):
    torch.testing.assert_close(got, want, rtol=0, atol=NETWORK_ERROR * float(want.std()))


@torch.inference_mode()
def test_retinaface(finder, ours):
    image = torch.randn(2, 3, 512, 512, generator=torch.Generator().manual_seed(1))
    boxes, logits, _ = finder.detector.model(image)
    raw = ours.retinaface(image)
    assert_near(raw.offsets, boxes)
    assert_near(raw.logits, logits)


@torch.inference_mode()
def test_landmarks106(finder, ours):
    image = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    points = finder.landmarks(image).view(2, 106, 2)
    # The maps are 400 times as peaked as they came: so is the error.
    torch.testing.assert_close(ours.landmarks106(image), points, rtol=0, atol=5e-4)


@torch.inference_mode()
def test_s3fd(finder, ours):
    image = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(1)) * 255 - 115
    want = finder.s3fd(image)
    for level, grid in enumerate(ours.s3fd(image)):
        assert_near(grid[:, :2], want[2 * level])
        assert_near(grid[:, 2:], want[2 * level + 1])


@torch.inference_mode()
@pytest.mark.parametrize("size_hw", [(430, 610), (610, 430), (512, 512), (1024, 700), (90, 333)])
def test_boxes(finder, ours, photo, size_hw):
    picture = waving_picture(np.random.default_rng(8), size_hw)
    picture[: min(430, size_hw[0]), : min(610, size_hw[1])] = photo[: size_hw[0], : size_hw[1]]
    (found,) = detect(ours.retinaface, [picture])
    want = [face for face in finder.detector.predict_jsons(picture) if face["score"] != -1]
    assert [(box.left, box.top, box.right, box.bottom) for box in (face.box for face in found)] == [
        tuple(face["bbox"]) for face in want
    ]
    np.testing.assert_allclose([face.score for face in found], [face["score"] for face in want], atol=1e-4)


def test_boxes_were_found_and_some_lie_over_the_border(ours, photo):
    (found,) = detect(ours.retinaface, [photo])
    assert any(face.box.left < 0 or face.box.top < 0 for face in found)
    assert any(face.box.right > 610 or face.box.bottom > 430 for face in found)


@torch.inference_mode()
def test_106_points(finder, ours, photo):
    (found,) = detect(ours.retinaface, [photo])
    _, want = finder.pipeline.infer_lmks(np.ascontiguousarray(photo[..., ::-1]))
    got = closer_points(ours.landmarks106, [photo] * len(found), found)
    # Boxes wholly in the padding above the photo, which only random weights find, are dropped; upstream's slices end at
    # a negative row there, which Python counts from the far side.
    assert list(got) == [rank for rank, face in enumerate(found) if face.box.bottom > 0]
    assert len(got) > 5
    for rank, points in got.items():
        # 1e-4 of the crop's side: the peaked maps again, and the second crop moved by the first points' error.
        assert np.abs(points - want[rank]).max() < 1e-4 * 1.35 * np.ptp(want[rank], 0).max()


@torch.inference_mode()
def test_68_points_of_every_face(finder, ours, photo):
    bgr = np.ascontiguousarray(photo[..., ::-1])
    _, all_106 = finder.pipeline.infer_lmks(bgr)
    faces, (boxes,) = find_faces(ours, working_photo(photo)), detect(ours.retinaface, [photo])
    by_rank = {[found.box for found in boxes].index(face.box): face for face in faces}
    compared = 0
    for rank, points in enumerate(all_106):
        want = official_68(finder, bgr, points)
        assert (want is None) == (rank not in by_rank)
        if want is not None:
            torch.testing.assert_close(by_rank[rank].points.double(), torch.tensor(want).double(), rtol=0, atol=1e-3)
            compared += 1
    assert compared > 3
    areas = [face.box.area for face in faces]
    assert areas == sorted(areas, reverse=True)


def official_68(finder: OfficialFinder, bgr: np.ndarray, points: np.ndarray) -> np.ndarray | None:
    """(68, 2), or None where the published pipeline stops: no crop can be had of the photo."""
    import cv2

    try:
        return finder.pipeline.prepare_data(bgr, finder.pipeline.lm_sess, five_points=points[list(FIVE_OF_106)])
    except cv2.error:  # a crop without pixels
        return None


@torch.inference_mode()
def test_s3fd_picks_the_face_that_is_picked_upstream(modules, finder, ours):
    random = np.random.default_rng(3)
    crops = np.stack([waving_picture(random, (224, 224)) for _ in range(4)])
    views = best_faces(ours.s3fd, crops)
    assert list(views) == [0, 1, 2, 3]
    sfd = finder.pipeline.lm_sess.face_detector
    for index, view in views.items():
        left, top, right, bottom, _ = sfd.detect_from_image(crops[index].astype(np.float32))[0]
        want = (right + left) / 2, (top + bottom) / 2 - 0.12 * (bottom - top), (right - left + bottom - top) / 195
        np.testing.assert_allclose((*view.centre_xy, view.scale), want, rtol=1e-5, atol=1e-4)


def test_large_photos(modules):
    photo = waving_picture(np.random.default_rng(9), (1203, 2110))
    want, _ = modules.utils.resize_on_long_side(photo, 1500)
    difference = np.abs(working_photo(photo).rgb - want.astype(int))  # shapes must agree
    assert difference.max() <= 1 and (difference > 0).mean() < 0.005  # IPP sums in another order


@pytest.mark.parametrize("seed", range(12))
def test_resampling(modules, seed):
    import cv2

    random = np.random.default_rng(seed)
    (height, width), size_hw = random.integers(1, 500, (2, 2)).tolist()
    picture = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
    linear = cv2.resize(picture, size_hw[::-1], interpolation=cv2.INTER_LINEAR)
    np.testing.assert_array_equal(opencv_resize.resize_linear(picture, size_hw), linear)
