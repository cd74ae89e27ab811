"""The published way from a photo to landmarks, run on a CPU: what test_find.py and test_widen.py hold ours against.

The pipeline's file imports TensorFlow, torchvision, albumentations and modelscope's frame of pipelines at its top. Most
of it is not needed here; the few functions and classes that are have stand-ins below, which are gone from sys.modules
again when the import is done. face-alignment is the real one, but not its latest version, which cannot load the
published weights: `pip install --no-deps face-alignment==1.4.1`.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.machinery
import importlib.util
import io
import sys
import types
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

NEEDS = ("cv2", "numba", "kornia", "addict", "skimage", "scipy", "modelscope", "face_alignment")
NETWORKS = "modelscope.models.cv.face_reconstruction.models.networks"


def official_modules() -> types.SimpleNamespace:
    """pipeline, utils, detector (RetinaFace's predict_single), landmarks (the 106-point net), s3fd, alignment."""
    for name in NEEDS:
        pytest.importorskip(name, reason=f"the published pipeline needs {name}", exc_type=ImportError)
    root = "modelscope.models.cv"
    names = {
        "utils": f"{root}.face_reconstruction.utils",
        "detector": f"{root}.skin_retouching.retinaface.predict_single",
        "landmarks": f"{root}.face_reconstruction.models.facelandmark.nets.large_base_lmks_net",
        "infer": f"{root}.face_reconstruction.models.facelandmark.large_base_lmks_infer",
        "s3fd": "face_alignment.detection.sfd.net_s3fd",
        "sfd": "face_alignment.detection.sfd.sfd_detector",
        "alignment": "face_alignment",
    }
    # They announce themselves, and their constructors' logger does too.
    with _stand_ins(), contextlib.redirect_stdout(io.StringIO()):
        modules = {key: importlib.import_module(name) for key, name in names.items()}
        return types.SimpleNamespace(pipeline=_pipeline_file(), **modules)


def _pipeline_file() -> types.ModuleType:
    """The pipeline's own file, without modelscope.pipelines round it (which wants `datasets` and more)."""
    root = importlib.util.find_spec("modelscope").submodule_search_locations[0]
    path = Path(root, "pipelines", "cv", "face_reconstruction_pipeline.py")
    spec = importlib.util.spec_from_file_location("official_pipeline", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@contextlib.contextmanager
def _stand_ins() -> Iterator[None]:
    stand_ins = {
        "tensorflow": _module("tensorflow", __version__="1.15"),
        "einops": _module("einops", rearrange=None),
        "albumentations": _module(
            "albumentations", Compose=_Compose, LongestMaxSize=_LongestMaxSize, Normalize=_Normalize
        ),
        "torchvision": _module("torchvision"),
        "torchvision.ops": _module("torchvision.ops", nms=_nms),
        "torchvision.models": _module("torchvision.models", resnet50=_resnet50),
        "torchvision.models._utils": _module("torchvision.models._utils", IntermediateLayerGetter=_LayerGetter),
    }

    class Registry:
        register_module = staticmethod(lambda *_, **__: lambda pipeline_class: pipeline_class)

    stand_ins |= {
        "modelscope.pipelines": _module("modelscope.pipelines", pipeline=None),
        "modelscope.pipelines.base": _module("modelscope.pipelines.base", Input=object, Pipeline=object),
        "modelscope.pipelines.builder": _module("modelscope.pipelines.builder", PIPELINES=Registry),
        "modelscope.preprocessors": _module("modelscope.preprocessors", LoadImage=None),
        "modelscope.outputs": _module("modelscope.outputs", OutputKeys=None),
    }
    stand_ins["torchvision.models"]._utils = stand_ins["torchvision.models._utils"]
    stand_ins["torchvision"].models = stand_ins["torchvision.models"]
    stand_ins["torchvision"].ops = stand_ins["torchvision.ops"]
    before = {name: sys.modules.get(name) for name in stand_ins}
    sys.modules.update(stand_ins)
    try:
        yield
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


def _module(name: str, **attributes) -> types.ModuleType:
    module = types.ModuleType(name)
    module.__spec__ = importlib.machinery.ModuleSpec(name, None)
    module.__path__ = []
    vars(module).update(attributes)
    return module


def _nms(boxes: Tensor, scores: Tensor, most_iou: float) -> Tensor:
    """torchvision.ops.nms, pair by pair."""
    kept: list[int] = []
    for index in scores.argsort(descending=True, stable=True).tolist():
        if all(_iou(boxes[index], boxes[other]) <= most_iou for other in kept):
            kept.append(index)
    return torch.tensor(kept, dtype=torch.int64)


def _iou(a: Tensor, b: Tensor) -> float:
    width = max(float(torch.minimum(a[2], b[2]) - torch.maximum(a[0], b[0])), 0.0)
    height = max(float(torch.minimum(a[3], b[3]) - torch.maximum(a[1], b[1])), 0.0)
    areas = [float((box[2] - box[0]) * (box[3] - box[1])) for box in (a, b)]
    return width * height / (sum(areas) - width * height)


def _resnet50(pretrained: bool) -> nn.Module:
    """torchvision's ResNet-50, of which modelscope has a copy."""
    return importlib.import_module(NETWORKS).resnet50()


class _LayerGetter(nn.ModuleDict):
    """torchvision's: runs the layers in order, answers with some of them."""

    def __init__(self, network: nn.Module, return_layers: dict[str, int]):
        layers = list(network.named_children())
        last = max(index for index, (name, _) in enumerate(layers) if name in return_layers)
        super().__init__(OrderedDict(layers[: last + 1]))
        self._names = return_layers

    def forward(self, x: Tensor) -> OrderedDict[int, Tensor]:
        answers = OrderedDict()
        for name, layer in self.items():
            x = layer(x)
            if name in self._names:
                answers[self._names[name]] = x
        return answers


class _Compose:
    def __init__(self, steps):
        self._steps = steps

    def __call__(self, image):
        for step in self._steps:
            image = step(image)
        return {"image": image}


class _LongestMaxSize:
    """albumentations 1.3: cv2.resize, linear, sizes rounded half to even."""

    def __init__(self, max_size: int, p: int):
        self._longest = max_size

    def __call__(self, image: np.ndarray) -> np.ndarray:
        import cv2

        scale = self._longest / float(max(image.shape[:2]))
        height, width = (round(side * scale) for side in image.shape[:2])
        return image if scale == 1.0 else cv2.resize(image, dsize=(width, height), interpolation=cv2.INTER_LINEAR)


class _Normalize:
    """albumentations 1.3 with its defaults, ImageNet's."""

    def __init__(self, p: int):
        pass

    def __call__(self, image: np.ndarray) -> np.ndarray:
        mean = np.array((0.485, 0.456, 0.406), np.float32) * 255
        share = np.reciprocal(np.array((0.229, 0.224, 0.225), np.float32) * 255, dtype=np.float32)
        return (image.astype(np.float32) - mean) * share


class OfficialFinder:
    """The published pipeline with seeded random weights, set so that it finds a few faces in one photo."""

    def __init__(self, modules: types.SimpleNamespace, photo_rgb: np.ndarray, seed: int):
        torch.manual_seed(seed)
        self.regressor = _regressor(seed)
        self.detector = modules.detector.Model(max_size=512, device="cpu")
        self.landmarks = randomised(modules.landmarks.LargeBaseLmksNet())
        # Peaked heatmaps: points all over the crop instead of 106 times its middle.
        self.landmarks.block19.weight.data *= 400
        self.s3fd = randomised(modules.s3fd.s3fd())
        _raise_s3fd(self.s3fd)
        self.fan = torch.jit.trace(nn.Conv2d(3, 68, 7, 4, padding=3).eval(), torch.zeros(1, 3, 256, 256))
        randomised(self.detector.model)
        _raise_retinaface(self.detector, photo_rgb)
        self.pipeline = self._pipeline(modules)

    def _pipeline(self, modules: types.SimpleNamespace):
        alignment = modules.alignment.FaceAlignment.__new__(modules.alignment.FaceAlignment)
        sfd = modules.sfd.SFDDetector.__new__(modules.sfd.SFDDetector)
        vars(sfd).update(device="cpu", verbose=False, fiter_threshold=0.5, face_detector=self.s3fd)
        # 2D: the same points as 3D without the depth net, whose answer the pipeline drops.
        vars(alignment).update(
            device="cpu",
            dtype=torch.float32,
            flip_input=False,
            landmarks_type=modules.alignment.LandmarksType.TWO_D,
            face_detector=sfd,
            face_alignment_net=self.fan,
        )
        pipeline = modules.pipeline.FaceReconstructionPipeline.__new__(modules.pipeline.FaceReconstructionPipeline)
        pipeline.detector, pipeline.large_base_lmks_model = self.detector, self.landmarks
        pipeline.device_name_, pipeline.lm_sess, pipeline.align_params = "cpu", alignment, self.regressor
        return pipeline


def randomised(network: nn.Module) -> nn.Module:
    """The network with batch statistics and slopes that are not the identity's."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 1.5)
            module.weight.data.uniform_(0.5, 1.2)
            module.bias.data.normal_(0, 0.2)
        if isinstance(module, nn.PReLU):
            module.weight.data.uniform_(0, 0.5)
    return network.eval().requires_grad_(False)


def _regressor(seed: int) -> dict[str, np.ndarray]:
    """A box about five times as wide as the points' spread, its middle near theirs."""
    random = np.random.default_rng(seed)
    w1, b1, w2 = (random.normal(0, 0.3, shape) for shape in ((200, 10), (200, 1), (3, 200)))
    return {"W1": w1, "B1": b1, "W2": w2 / 20, "B2": np.array([[-2.4], [-2.6], [45.0]])}


def _raise_s3fd(network: nn.Module) -> None:
    """The third finest grid's cells, 16 px apart with anchors of 64 px, compete for the best score."""
    network.conv5_3_norm_mbox_conf.weight.data *= 20
    network.conv5_3_norm_mbox_loc.weight.data *= 20
    network.conv5_3_norm_mbox_conf.bias.data = torch.tensor([0.0, 3.0])
    for grid in ("conv3_3_norm", "conv4_3_norm", "fc7", "conv6_2", "conv7_2"):
        getattr(network, f"{grid}_mbox_conf").bias.data[-1] = -5.0


def _raise_retinaface(detector, photo_rgb: np.ndarray, wanted: int = 12) -> None:
    """Scores that spread, and of each grid but the finest the best few anchors above the threshold."""
    picture = detector.transform(image=photo_rgb)["image"].transpose(2, 0, 1)
    padded = torch.zeros(1, 3, 512, 512)
    padded[0, :, : picture.shape[1], : picture.shape[2]] = torch.from_numpy(picture)
    network, start = detector.model, 0
    _, logits, _ = network(padded)
    for level, cells in enumerate((64, 32, 16)):
        count = cells * cells * 2
        own = logits[0, start : start + count]
        margin = (own[:, 1] - own[:, 0]).sort(descending=True).values
        gain = 4 / margin.std()
        conv = network.ClassHead[level].conv1x1
        conv.weight.data *= gain
        conv.bias.data *= gain
        # log(0.7 / 0.3) = 0.85 is the margin of the least score that counts.
        conv.bias.data[1::2] += 0.85 - gain * margin[wanted] if level else -100.0
        network.BboxHead[level].conv1x1.weight.data *= 2
        start += count


def waving_picture(random: np.random.Generator, size_hw: tuple[int, int]) -> np.ndarray:
    """(H, W, 3) uint8 with soft and hard edges, as a photo has, and a little grain."""
    rows, columns = np.mgrid[: size_hw[0], : size_hw[1]]
    waves = [
        np.sin(rows / random.uniform(5, 30) + columns / random.uniform(5, 30) + random.uniform(0, 6)) for _ in range(9)
    ]
    picture = np.stack(waves, -1).reshape(*size_hw, 3, 3).sum(-1) * 35 + 128
    picture[size_hw[0] // 3 : size_hw[0] // 2, size_hw[1] // 4 :] += 60
    return (picture + random.normal(0, 1, picture.shape)).clip(0, 255).astype(np.uint8)


def with_points(random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """106 points (106, 2) laid out like a face's, unevenly, in an 800 px picture; and its box (4,) int64."""
    middle, radius = np.array([400, 420]) + random.normal(0, 25, 2), random.uniform(190, 250)
    points = np.zeros((106, 2))
    around = np.linspace(1.05 * np.pi, -0.05 * np.pi, 33)
    points[:33] = middle + radius * np.stack([np.cos(around), 1.25 * np.sin(around)], 1)
    # First and last point, then middle and radii in radii of the face: brows, nose, wings, eyes, mouth.
    parts = [
        (33, 42, -0.45, -0.35, 0.25, 0.08),
        (42, 51, 0.45, -0.35, 0.25, 0.08),
        (51, 57, 0.0, 0.0, 0.05, 0.3),
        (57, 66, 0.0, 0.25, 0.2, 0.05),
        (66, 75, -0.42, -0.15, 0.18, 0.08),
        (75, 84, 0.42, -0.15, 0.18, 0.08),
        (84, 106, 0.0, 0.65, 0.3, 0.12),
    ]
    for first, last, x, y, wide, high in parts:
        around = np.linspace(0, 2 * np.pi if first >= 66 else np.pi, last - first)
        points[first:last] = middle + radius * np.stack([x + wide * np.cos(around), y - high * np.sin(around)], 1)
    points += random.normal(0, 2, points.shape)
    reach = radius * np.array([-0.95, -1.1, 0.95, 1.25])
    return points, (np.tile(middle, 2) + reach).astype(int)
