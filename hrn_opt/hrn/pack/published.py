"""The published pack of HRN (ModelScope iic/cv_resnet50_face-reconstruction): its files, and what they must hold.

Nothing here is trusted: whatever is missing, cut off or another model's is said in one sentence.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hrn_opt.errors import PackDamaged, PackForeign, PackIncomplete
from hrn_opt.program import FETCH

if TYPE_CHECKING:
    from torch import Tensor

MODEL_ID = "iic/cv_resnet50_face-reconstruction"
# The first is what the published code's own tests name; what the hub gives without a revision has changed in time.
REVISIONS = ("v2.0.0-HRN", "master")
REMEDY = f"fetch the pack again ({FETCH})"
_KEYS_SHOWN, _KEY_CHARACTERS = 6, 40

WEIGHTS = "pytorch_model.pt"
RETOUCH_WEIGHTS = "de_retouching_model.pth"
LANDMARKS106_WEIGHTS = "large_base_net.pth"
RETINAFACE_WEIGHTS = "retinaface_resnet50_2020-07-20_old_torch.pth"
S3FD_WEIGHTS = "face_alignment/s3fd-619a316812.pth"
FAN_ARCHIVE = "face_alignment/3DFAN4-4a694010b9.zip"
MASK_GRAPH = "segment_face.pb"
MORPHABLE_MODEL = "assets/BFM_model_front.mat"
UV_COORDINATES = "assets/bfm_uvs2.npy"
ALBEDO_MEAN = "assets/bfm_tex_mean2.npy"
ALBEDO_BASIS = "assets/bfm_texmap_base2.npy"
TEMPLATE_MESH = "assets/template_bfm.obj"
ALIGN_POINTS = "assets/similarity_Lm3D_all.mat"
BOX_REGRESSOR = "assets/BBRegressorParam_r.mat"


class Part(Enum):
    """What a file of the pack is for. The published depth net (face_alignment/depth-*.zip) is for nothing we need."""

    RECONSTRUCT = "reconstruct"  # from landmarks to texture: always needed
    FIND = "find"  # from photo to landmarks: not needed by callers who bring their own
    MASK = "mask"  # the skin mask: the face's outline stands in for it


FILES: Mapping[str, Part] = {
    WEIGHTS: Part.RECONSTRUCT,
    RETOUCH_WEIGHTS: Part.RECONSTRUCT,
    MORPHABLE_MODEL: Part.RECONSTRUCT,
    UV_COORDINATES: Part.RECONSTRUCT,
    ALBEDO_MEAN: Part.RECONSTRUCT,
    ALBEDO_BASIS: Part.RECONSTRUCT,
    TEMPLATE_MESH: Part.RECONSTRUCT,
    ALIGN_POINTS: Part.RECONSTRUCT,
    BOX_REGRESSOR: Part.RECONSTRUCT,
    LANDMARKS106_WEIGHTS: Part.FIND,
    RETINAFACE_WEIGHTS: Part.FIND,
    S3FD_WEIGHTS: Part.FIND,
    FAN_ARCHIVE: Part.FIND,
    MASK_GRAPH: Part.MASK,
}


# SHA-256 of files that public download scripts list, or that lie in public repositories; the others have none.
KNOWN_SHA256: Mapping[str, str] = {
    FAN_ARCHIVE: "4a694010b93140609b64a6ea734afc0ee80a4798394740281b0c5bea0ebef1d9",
    S3FD_WEIGHTS: "619a31681264d3f7f7fc7a16a42cbbe8b23f31a256f75a366e5a1bcd59b33543",
    BOX_REGRESSOR: "3a5a07b8ce75a39d96b918dc0fc6e110a72e090da16f5f056a0ef7bfbc3f4560",
    ALIGN_POINTS: "53b83ce6e35c50ddc3e97603650cef4970320c157e75c241c844f29c1dcba65a",
}


@dataclass(frozen=True)
class PackReport:
    """What a folder holds of the published pack.

    sizes: bytes of each file found, by its path in the pack.
    missing: the files not there, none of them needed to reconstruct from landmarks.
    """

    folder: Path
    sizes: Mapping[str, int]
    missing: tuple[str, ...]

    @property
    def can_find(self) -> bool:
        """Whether every file is there that finding faces needs."""
        return not any(FILES[path] is Part.FIND for path in self.missing)


def is_published(folder: Path) -> bool:
    """Whether a folder looks like the published pack, whole or not."""
    return (folder / WEIGHTS).is_file() or (folder / MORPHABLE_MODEL).is_file()


def verify(folder: Path, *, whole: bool = False) -> PackReport:
    """What the folder holds, by names and sizes; an error when files needed to reconstruct are missing or empty.

    whole: every file is needed, also those for finding faces and for the skin mask.
    """
    if not folder.is_dir():
        raise PackIncomplete(f"{folder} is no folder; {REMEDY}, or give the folder that holds {WEIGHTS}.")
    present = [path for path in FILES if (folder / path).is_file()]
    missing = tuple(path for path in FILES if path not in present)
    needed = [path for path in missing if whole or FILES[path] is Part.RECONSTRUCT]
    if needed:
        raise PackIncomplete(f"{_listed(needed)} missing in {folder}; {REMEDY}.")
    sizes = {path: (folder / path).stat().st_size for path in present}
    empty = [path for path, size in sizes.items() if size == 0]
    if empty:
        raise PackDamaged(f"{_listed(empty)} empty in {folder}; {REMEDY}.")
    return PackReport(folder, sizes, missing)


def _listed(paths: list[str]) -> str:
    return f"{', '.join(paths)} {'is' if len(paths) == 1 else 'are'}"


def _keys_of(checkpoint: Mapping[Any, Any]) -> str:
    names = sorted(str(key) for key in checkpoint)
    shown = ", ".join(repr(name[:_KEY_CHARACTERS]) for name in names[:_KEYS_SHOWN]) or "nothing"
    return shown if len(names) <= _KEYS_SHOWN else f"{shown} and {len(names) - _KEYS_SHOWN} more"


def section(checkpoint: Mapping[Any, Any], key: str | None, file_name: str) -> Mapping[str, Tensor]:
    """The tensors of one network: under `key` of a checkpoint, or the whole of it; `module.` is cut from names."""
    if key is not None and key not in checkpoint:
        raise PackForeign(
            f"{file_name} is whole, but of another revision or model: it has no {key!r}, but {_keys_of(checkpoint)}. "
            f"Fetch revision {REVISIONS[0]} ({FETCH} --revision {REVISIONS[0]})."
        )
    state = checkpoint if key is None else checkpoint[key]
    from torch import Tensor  # here alone: what lies on the disk is asked for on every page, without torch

    if not isinstance(state, Mapping):
        raise PackDamaged(f"{key!r} in {file_name} is no set of named weights; {REMEDY}.")
    return {
        name.removeprefix("module."): value
        for name, value in state.items()
        if isinstance(name, str) and isinstance(value, Tensor)
    }


def scalar(checkpoint: Mapping[Any, Any], key: str, file_name: str) -> Tensor:
    """(1,) float32, one of the checkpoint's two trained gains."""
    value = checkpoint.get(key)
    if value is None:
        raise PackForeign(
            f"{file_name} is whole, but of another revision or model: it has no {key!r}, but {_keys_of(checkpoint)}. "
            f"Fetch revision {REVISIONS[0]} ({FETCH} --revision {REVISIONS[0]})."
        )
    from torch import Tensor

    if not isinstance(value, Tensor) or value.numel() != 1:
        raise PackDamaged(f"{key!r} in {file_name} is not one number; {REMEDY}.")
    return value.detach().reshape(1).float()


def check_archive(path: Path) -> None:
    """An error unless the file is a whole TorchScript archive."""
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
            is_script = any("/code/" in name for name in archive.namelist())
    except (zipfile.BadZipFile, OSError, EOFError) as error:
        raise PackDamaged(f"{path.name} is truncated or damaged; {REMEDY}.") from error
    if damaged is not None:
        raise PackDamaged(f"{path.name} is damaged at {damaged}; {REMEDY}.")
    if not is_script:
        raise PackForeign(f"{path.name} is no TorchScript archive; {REMEDY}.")
