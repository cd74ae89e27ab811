"""Finding faces, without the published code: against what it and OpenCV once gave (tools/find_reference.py)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from hrn_opt.errors import PackDamaged, PackIncomplete
from hrn_opt.hrn.exact import opencv_resize
from hrn_opt.hrn.find import boxes as detect
from hrn_opt.hrn.find import crops, landmarks
from hrn_opt.hrn.find import faces as find
from hrn_opt.hrn.networks import landmarks106, resnet, retinaface, s3fd
from hrn_opt.hrn.networks.folding import load_network
from hrn_opt.hrn.networks.retinaface import RawFaces
from hrn_opt.types import Box

ANCHOR_COUNT = 2 * (64**2 + 32**2 + 16**2)
MIDDLE_ANCHOR = 2 * (64**2 + 32**2) + 2 * (8 * 16 + 8)  # the coarsest grid's 256 px anchor at (272, 272)


@pytest.fixture(scope="module")
def reference() -> dict[str, np.ndarray]:
    path = Path(__file__).parents[2] / "data" / "find_reference.npz"
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


# Resampling


@pytest.mark.parametrize("name", ["smaller", "larger", "half"])
def test_linear_is_opencvs_to_the_last_bit(reference, name):
    want = reference[f"linear_{name}"]
    np.testing.assert_array_equal(opencv_resize.resize_linear(reference["picture"], want.shape[:2]), want)


@pytest.mark.parametrize("name", ["smaller", "larger", "half"])
def test_cubic_is_opencvs_but_for_rounding(reference, name):
    want = reference[f"cubic_{name}"].astype(int)
    difference = np.abs(opencv_resize.resize_cubic(reference["picture"], want.shape[:2]) - want)
    assert difference.max() <= 1 and (difference > 0).mean() < 0.002  # IPP sums in another order


def test_resizing_to_the_same_size_is_free(reference):
    picture = reference["picture"]
    assert (
        opencv_resize.resize_linear(picture, (60, 82)) is picture
        and opencv_resize.resize_cubic(picture, (60, 82)) is picture
    )


# Crops


def test_a_square_over_the_border_is_filled_with_the_mean_colour():
    photo = np.full((40, 60, 3), 9, np.uint8)
    # Left of the photo by 20.9 px, which is cut to 20: of 70 px in 224, the first 64 are border.
    crop = crops.cut_square(photo, crops.Square(-20.9, 5.0, 70.9))
    assert crop[100, :62].tolist() == [[104, 117, 124]] * 62
    assert (crop[:100, 68:] == 9).all()
    assert crop[-1, -1].tolist() == [104, 117, 124]


def test_the_square_round_a_box_is_enlarged_round_its_middle():
    square = crops.square_around(10, 20, 29, 59)  # 20 × 40 px, its last pixel at 29, 59
    assert square.side == pytest.approx(1.35 * 40)
    assert (square.left + square.side / 2, square.top + square.side / 2) == pytest.approx((19.5, 39.5))


@pytest.mark.parametrize(
    ("square", "shown"),
    [
        ((-30.0, 5.0, 31.5), True),
        ((-30.0, 5.0, 30.5), False),
        ((60.0, 5.0, 9.0), False),
        ((5.0, -900.0, 9999.0), False),
    ],
)
def test_which_squares_show_some_of_the_photo(square, shown):
    assert crops.Square(*square).window.shows((40, 60)) is shown


# Boxes


def raw_faces(*faces: tuple[int, float]) -> RawFaces:
    """No face anywhere but at these anchors, with these margins between face and no face; boxes are the anchors'."""
    logits = torch.zeros(1, ANCHOR_COUNT, 2)
    logits[..., 0] = 9.0
    for anchor, margin in faces:
        logits[0, anchor] = torch.tensor([0.0, margin])
    return RawFaces(logits, torch.zeros(1, ANCHOR_COUNT, 4))


def test_a_box_is_brought_back_through_padding_and_scale():
    (found,) = detect.decode(raw_faces((MIDDLE_ANCHOR, 2.0)), (600, 1000))
    # 144 to 400 px at 512 px; above it 102 of the 205 padded rows; then × 1000 / 512, cut.
    assert found.box == Box(281.0, 82.0, 781.0, 582.0)
    assert found.score == pytest.approx(1 / (1 + np.exp(-2.0)))


def test_offsets_move_and_grow_the_anchor():
    raw = raw_faces((MIDDLE_ANCHOR, 2.0))
    raw.offsets[0, MIDDLE_ANCHOR] = torch.tensor([0.5, -1.0, 5 * np.log(0.5), 5 * np.log(0.75)])
    (found,) = detect.decode(raw, (512, 512))
    # The middle goes by tenths of 256 px, from 272 to 284.8 and 246.4; the sides become 128 and 192 px.
    assert found.box == Box(220.0, 150.0, 348.0, 342.0)


def test_scores_order_the_boxes_and_the_threshold_cuts_them():
    small = 2 * (8 * 64 + 8), 2 * (40 * 64 + 40)
    margin = float(np.log(0.7 / 0.3))
    found = detect.decode(raw_faces((small[0], 1.0), (MIDDLE_ANCHOR, 2.0), (small[1], margin - 1e-3)), (512, 512))
    assert [round(face.box.width) for face in found] == [256, 16]


def test_no_face_is_no_error():
    assert detect.decode(raw_faces(), (300, 200)) == ()


def test_of_overlapping_boxes_the_best_stays():
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [20, 0, 30, 10], [4.2, 0, 14.2, 10], [0, 6, 10, 16]])
    assert detect.suppress(boxes, 0.4).tolist() == [0, 2, 4]  # 0.9, 0, 58 / 142, 40 / 160


def test_suppression_leaves_nothing_that_overlaps_more():
    generator = torch.Generator().manual_seed(1)
    corners = torch.rand(80, 2, generator=generator) * 60
    boxes = torch.cat([corners, corners + 5 + 30 * torch.rand(80, 2, generator=generator)], 1)
    kept = detect.suppress(boxes, 0.3)
    overlaps = torch.stack([_overlap(box, boxes[kept]) for box in boxes])  # (80, K)
    assert (overlaps[kept].fill_diagonal_(0) <= 0.3).all()
    for index in set(range(80)) - set(kept.tolist()):
        assert overlaps[index][kept < index].max() > 0.3


def _overlap(box: Tensor, boxes: Tensor) -> Tensor:
    sides = torch.minimum(box[2:], boxes[:, 2:]) - torch.maximum(box[:2], boxes[:, :2])
    shared = sides.clamp(min=0).prod(1)
    return shared / ((box[2:] - box[:2]).prod() + (boxes[:, 2:] - boxes[:, :2]).prod(1) - shared)


def test_anchors_lie_as_published():
    anchors = detect.anchors() * 512
    assert anchors.shape == (ANCHOR_COUNT, 4)
    assert anchors[0].tolist() == [4, 4, 16, 16] and anchors[3].tolist() == [12, 4, 32, 32]
    assert anchors[MIDDLE_ANCHOR].tolist() == [272, 272, 256, 256]


def test_the_picture_is_padded_evenly_and_normalised():
    image = detect.to_input(np.full((30, 60, 3), 255, np.uint8))
    assert image.shape == (3, 512, 512)
    assert (image[:, :128] == 0).all() and (image[:, 384:] == 0).all()
    assert image[:, 200, 10].tolist() == pytest.approx(
        [(1 - m) / d for m, d in ((0.485, 0.229), (0.456, 0.224), (0.406, 0.225))]
    )


# 68 points


@pytest.fixture
def regressor(reference) -> landmarks.BoxRegressor:
    return landmarks.BoxRegressor(*(reference[name] for name in ("w1", "b1", "w2", "b2")))


def test_five_points_choose_the_crop(reference, regressor):
    photo, point_crops = reference["photo"], iter(reference["point_crops"])
    for five, box, scale in zip(reference["fives"], reference["boxes"], reference["scales"], strict=True):
        points = np.zeros((106, 2))
        points[list(landmarks.FIVE_OF_106)] = five
        view = landmarks.view_for_points(regressor, points, photo.shape[:2])
        assert view.window.shows(photo.shape[:2]) == (scale > 0)
        if scale:
            assert (view.window.left, view.window.top, view.side) == tuple(box[:3])
            assert view.to_photo(np.array([224.0, 0.0])).tolist() == pytest.approx([224 / scale + box[0], box[1]])
            difference = np.abs(crops.cut_for_points(photo, view.window) - next(point_crops).astype(int))
            assert difference.max() <= 1 and (difference > 0).mean() < 0.002  # as the cubic resize


def test_coinciding_points_choose_nothing(regressor):
    view = landmarks.view_for_points(regressor, np.ones((106, 2)), (90, 80))
    assert not view.window.shows((90, 80))


def test_fan_sees_what_face_alignment_cuts(reference):
    x, y, scale = reference["fan_view"].tolist()
    seen = crops.cut_for_fan(reference["crop"], landmarks.FanView((x, y), scale).window)
    np.testing.assert_array_equal(seen, reference["fan_seen"])


def test_heatmaps_are_read_as_face_alignment_does(reference):
    x, y, scale = reference["fan_view"].tolist()
    heatmaps = torch.from_numpy(reference["heatmaps"]).float()
    np.testing.assert_allclose(landmarks.peak_positions(heatmaps)[0], reference["heatmap_places"], rtol=0, atol=1e-6)
    view = landmarks.FanView((x, y), scale)
    assert view.points_from(landmarks.peak_positions(heatmaps)[0]).tolist() == reference["fan_points"].tolist()


# All of it, with networks that answer what they are told


def test_s3fds_cells_are_counted_through_all_grids():
    grids = [torch.zeros(2, 6, size, size + 1) for size in (5, 3, 2)]
    grids[1][1, 2:, 2, 1] = torch.tensor([1.0, -2.0, 5 * np.log(2.0), 0.0])
    box = landmarks._s3fd_box(grids, 1, 5 * 6 + 2 * 4 + 1)
    # 8 px apart with anchors of 32 px: the middle (12, 20) goes by (3.2, -6.4); the sides are 64 and 32 px.
    np.testing.assert_allclose(box, [15.2 - 32, 13.6 - 16, 15.2 + 32, 13.6 + 16], rtol=0, atol=1e-4)


def test_s3fd_is_shown_bgr_less_its_mean():
    shown = []

    def network(image: Tensor) -> list[Tensor]:
        shown.append(image)
        return FakeS3FD()(image)

    crop = np.empty((1, 224, 224, 3), np.uint8)
    crop[:] = (10, 20, 30)
    landmarks.best_faces(network, crop)
    assert shown[0][0, :, 5, 7].tolist() == [30 - 104, 20 - 117, 10 - 123]


class FakeS3FD:
    """Sees a 128 px face at (96, 96) of every crop but those whose middle is black."""

    def __call__(self, image: Tensor) -> list[Tensor]:
        grids = [torch.zeros(len(image), 6, 224 >> level, 224 >> level) for level in range(2, 8)]
        for grid in grids:
            grid[:, 0] = 9.0
        black = (image[:, 0, 112, 112] + landmarks.MEAN_S3FD_BGR[0]).abs() < 1
        grids[3][:, :2, 2, 2] = torch.where(black[:, None], torch.tensor([2.0, 0.0]), torch.tensor([0.0, 2.0]))
        return grids


class FakeFan(torch.nn.Module):
    def forward(self, image: Tensor) -> Tensor:
        heatmaps = torch.zeros(len(image), 68, 64, 64)
        heatmaps[:, :, 32, 16] = 1.0
        return heatmaps


def networks(raw: RawFaces, points: Tensor | None = None) -> find.FindNetworks:
    """points: (106, 2) in 0..1 of every crop; by default spread over its middle half."""
    spread = torch.linspace(0.25, 0.75, 106)
    points = torch.stack([spread, spread.flip(0)], 1) if points is None else points
    regressor = landmarks.BoxRegressor(
        np.zeros((4, 10)), np.zeros((4, 1)), np.zeros((3, 4)), np.array([[-2.0], [-2.0], [56.0]])
    )
    return find.FindNetworks(
        lambda images: RawFaces(raw.logits.expand(len(images), -1, -1), raw.offsets.expand(len(images), -1, -1)),
        lambda crops: points.expand(len(crops), -1, -1),
        FakeS3FD(),
        FakeFan(),
        regressor,
    )


SMALL_ANCHOR = 2 * 64**2 + 2 * (4 * 32 + 25)  # 64 px at (408, 72)


def test_every_face_largest_first():
    photo = find.working_photo(np.full((512, 512, 3), 200, np.uint8))
    found = find.find_faces(networks(raw_faces((SMALL_ANCHOR, 4.0), (MIDDLE_ANCHOR, 2.0))), photo)
    assert [face.box.width for face in found] == [256, 64]
    for face in found:
        assert face.points.shape == (68, 2) and face.points.dtype == torch.float32
        assert face.box.left < face.points.mean(0)[0] < face.box.right
        assert face.box.top < face.points.mean(0)[1] < face.box.bottom


def test_boxes_are_done_in_batches_without_a_difference():
    photo = find.working_photo(np.random.default_rng(0).integers(0, 256, (512, 512, 3), dtype=np.uint8))
    anchors = [(2 * 64**2 + 2 * (32 * row + column), 3.0 - 0.01 * row) for row in (5, 14, 23) for column in (6, 25)]
    together = find.find_faces(networks(raw_faces(*anchors)), photo)
    apart = find.find_faces(replace(networks(raw_faces(*anchors)), faces_at_once=2), photo)
    assert len(together) == 6
    for one, other in zip(together, apart, strict=True):
        assert one.box == other.box and one.points.tolist() == other.points.tolist()


def test_a_face_that_s3fd_does_not_see_is_lost_alone():
    picture = np.full((512, 512, 3), 200, np.uint8)
    picture[:, :340] = 0
    found = find.find_faces(networks(raw_faces((SMALL_ANCHOR, 4.0), (MIDDLE_ANCHOR, 2.0))), find.working_photo(picture))
    assert [face.box.width for face in found] == [64]


def test_no_face_gives_none():
    found = find.find_faces(networks(raw_faces()), find.working_photo(np.zeros((70, 90, 3), np.uint8)))
    assert found == ()


def test_points_outside_the_photo_lose_the_face():
    far = torch.tensor([[40.0, 40.0]]).expand(106, 2)
    found = find.find_faces(
        networks(raw_faces((MIDDLE_ANCHOR, 2.0)), far), find.working_photo(np.zeros((512, 512, 3), np.uint8))
    )
    assert found == ()


def test_points_on_the_photo_follow_the_crops():
    photo = find.working_photo(np.full((512, 512, 3), 200, np.uint8))
    finding = networks(raw_faces((MIDDLE_ANCHOR, 2.0)))
    (face,) = find.find_faces(finding, photo)
    (detections,) = find.detect(finding.retinaface, [photo.rgb])
    closer = torch.from_numpy(find.closer_points(finding.landmarks106, [photo.rgb], detections)[0])
    five = closer[list(landmarks.FIVE_OF_106)]
    spread = (five - five.mean(0)).square().sum().div(5).sqrt()
    left_top, side = (five.mean(0) - 2 * spread).round(), round(float(224 / 56 * spread))
    # FAN looks at 128 px boxes round (80, 80): heatmap (16.5, 32.5) of 64, which spans 200 · 256 / 195 px.
    span = 200 * 256 / landmarks.FAN_REFERENCE_PX
    view = torch.tensor([80.0, 80.0 - 0.12 * 128]) + (torch.tensor([16.5, 32.5]) / 64 - 0.5) * span
    torch.testing.assert_close(
        face.points[0].double(), view.double().trunc() * side / 224 + left_top, atol=1e-3, rtol=0
    )


@pytest.mark.parametrize(
    ("size_hw", "working_hw"), [((2000, 900), (2000, 900)), ((901, 2001), (675, 1500)), ((2400, 1001), (1500, 625))]
)
def test_large_photos_are_reduced_and_points_come_back(size_hw, working_hw):
    photo = find.working_photo(np.zeros((*size_hw, 3), np.uint8))
    assert photo.size_hw == working_hw and photo.photo_size_hw == size_hw
    corner = torch.tensor([[-0.5, -0.5], [working_hw[1] - 0.5, working_hw[0] - 0.5]], dtype=torch.float64)
    there = photo.to_photo(corner)
    torch.testing.assert_close(there, corner.new_tensor([[0, 0], [size_hw[1], size_hw[0]]]))
    torch.testing.assert_close(photo.from_photo(there), corner)
    whole = photo.box_to_photo(Box(0, 0, working_hw[1], working_hw[0]))
    assert (whole.right, whole.bottom) == pytest.approx((size_hw[1], size_hw[0]))


# Networks


def state_of(*sources) -> dict[str, Tensor]:
    """A small checkpoint with the keys and shapes that the sources name."""
    torch.manual_seed(2)
    state = {}
    for source in (source for group in sources for source in group.values()):
        state[f"{source.conv}.weight"] = torch.randn(source.shape) / 10
        if source.bias:
            state[f"{source.conv}.bias"] = torch.randn(source.shape[0])
        if source.norm:
            for part in ("weight", "bias", "running_mean"):
                state[f"{source.norm}.{part}"] = torch.randn(source.shape[0])
            state[f"{source.norm}.running_var"] = torch.rand(source.shape[0]) + 0.5
    return state


@pytest.fixture(scope="module")
def retinaface_state() -> dict[str, Tensor]:
    levels = [
        group
        for level in range(3)
        for group in (retinaface._context_sources(level, 16), retinaface._head_sources(level, 16))
    ]
    return state_of(resnet.sources(4, "body"), retinaface._pyramid_sources(4, 16), *levels)


def test_retinaface_loads_and_answers_one_row_an_anchor(retinaface_state):
    extra = {
        "LandmarkHead.0.conv1x1.weight": torch.zeros(20, 16, 1, 1),
        "body.bn1.num_batches_tracked": torch.tensor(3),
    }
    tensors = retinaface.from_official({f"module.{key}": value for key, value in (retinaface_state | extra).items()})
    raw = load_network(retinaface.RetinaFace, tensors)(torch.randn(2, 3, 512, 512))
    assert raw.logits.shape == (2, ANCHOR_COUNT, 2) and raw.offsets.shape == (2, ANCHOR_COUNT, 4)
    assert raw.logits.isfinite().all()


def test_a_missing_key_is_named(retinaface_state):
    state = {key: value for key, value in retinaface_state.items() if key != "ssh2.conv7x7_3.1.running_mean"}
    with pytest.raises(PackIncomplete, match=r"ssh2\.conv7x7_3\.1\.running_mean"):
        retinaface.from_official(state)


def test_a_wrong_shape_is_named(retinaface_state):
    with pytest.raises(PackDamaged, match=r"ClassHead.1.conv1x1.weight .*\(4, 8, 1, 1\)"):
        retinaface.from_official(retinaface_state | {"ClassHead.1.conv1x1.weight": torch.zeros(4, 8, 1, 1)})


def test_landmarks106_and_s3fd_name_what_lacks():
    with pytest.raises(PackIncomplete, match=r"block1.0.weight"):
        landmarks106.from_official({})
    with pytest.raises(PackIncomplete, match=r"conv1_1.weight"):
        s3fd.from_official({})


def test_the_106_points_count_rows_as_x():
    heatmaps = torch.full((1, 106, 14, 14), -50.0)
    heatmaps[:, :, 3, 11] = 50.0
    points = landmarks106._mean_position(heatmaps)
    torch.testing.assert_close(points[0, 0], torch.tensor([3 / 14, 11 / 14]))


def test_fan_may_answer_with_every_stacks_heatmaps():
    class Stacks(FakeFan):
        def forward(self, image: Tensor) -> list[Tensor]:
            last = super().forward(image)
            return [torch.zeros_like(last), last]

    crop, view = np.zeros((1, 224, 224, 3), np.uint8), [landmarks.FanView((100.0, 90.0), 1.0)]
    assert landmarks.points_68(Stacks(), crop, view).tolist() == landmarks.points_68(FakeFan(), crop, view).tolist()
