"""A prepared pack: one file of tensors, mapped into memory, beside two files that are kept as published.

Folder: `hrn.safetensors`, `fan.torchscript.zip` and `segment_face.pb` (each where the published pack had it) and
`manifest.json`, which is written last: a folder without it is not a prepared pack.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from hrn_opt.errors import PackDamaged, PackIncomplete
from hrn_opt.hrn.pack import published
from hrn_opt.hrn.pack.home import MANIFEST
from hrn_opt.program import FETCH

FORMAT_VERSION = 3
TENSORS = "hrn.safetensors"
FAN = "fan.torchscript.zip"
MASK = published.MASK_GRAPH
COPIES = {published.FAN_ARCHIVE: FAN, published.MASK_GRAPH: MASK}  # published path → name in the prepared pack
ONNX_MASK = "segment_face.onnx"  # put there by hand, see tools/convert_mask.py
FILE_NAMES = frozenset((MANIFEST, TENSORS, FAN, MASK, ONNX_MASK))

_REMEDY = f"prepare the pack again ({FETCH})"


@dataclass(frozen=True)
class Manifest:
    """What a prepared pack is made of.

    created_by: version of hrn_opt that made it.
    has_detectors: whether faces can be found with it.
    files: bytes of each file beside the manifest.
    sources: of each published file {"size", "mtime_ns", "sha256"}.
    notes: why optional files of the published pack were left out, by their path there.
    """

    created_by: str
    has_detectors: bool
    files: Mapping[str, int]
    sources: Mapping[str, Mapping[str, int | str]]
    notes: Mapping[str, str] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """The manifest into a folder, whole or not at all."""
        content = {"format": FORMAT_VERSION} | asdict(self)
        partial = folder / f".{MANIFEST}"
        partial.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        partial.replace(folder / MANIFEST)

    @staticmethod
    def read(folder: Path) -> Manifest:
        """The manifest of a prepared folder; PackIncomplete without one, PackDamaged when it is not of this version."""
        try:
            content = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
            version = content.pop("format")
        except (FileNotFoundError, NotADirectoryError):
            raise PackIncomplete(f"{folder} holds no prepared pack; {_REMEDY}.") from None
        except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
            raise PackDamaged(f"{folder / MANIFEST} cannot be read; {_REMEDY}.") from error
        if version != FORMAT_VERSION:
            raise PackDamaged(f"{folder} has format {version}, this version reads {FORMAT_VERSION}; {_REMEDY}.")
        try:
            return Manifest(**content)
        except TypeError as error:
            raise PackDamaged(f"{folder / MANIFEST} lacks entries; {_REMEDY}.") from error


@dataclass(frozen=True)
class PreparedPack:
    """An open prepared pack; its tensors lie in the mapped file until they are read, so they must not be written to.

    tensors_path: the safetensors file, for offloading straight from it.
    fan_path, mask_path: the landmark network's TorchScript archive and the skin mask's graph; None where absent.
    """

    folder: Path
    manifest: Manifest
    fan_path: Path | None
    mask_path: Path | None
    _tensors: Mapping[str, Tensor] = field(repr=False)

    @property
    def tensors_path(self) -> Path:
        return self.folder / TENSORS

    @property
    def has_detectors(self) -> bool:
        return self.manifest.has_detectors

    def tensors(self, prefix: str) -> dict[str, Tensor]:
        """Every tensor under `prefix`, by its name behind the dot."""
        start = prefix.rstrip(".") + "."
        return {name.removeprefix(start): value for name, value in self._tensors.items() if name.startswith(start)}

    def tensor(self, name: str) -> Tensor:
        if name not in self._tensors:
            raise PackIncomplete(f"{self.tensors_path} has no {name!r}; {_REMEDY}.")
        return self._tensors[name]

    def need_detectors(self) -> None:
        """PackIncomplete unless faces can be found with this pack."""
        if not self.has_detectors:
            raise PackIncomplete(
                f"{self.folder} was prepared without detectors: give the 68 landmarks with the photo, or fetch the "
                f"whole pack ({FETCH})."
            )


def open_prepared(folder: Path) -> PreparedPack:
    """The prepared pack in `folder`, its files checked for presence and size, its tensors mapped and not yet read."""
    manifest = Manifest.read(folder)
    for name, size in manifest.files.items():
        path = folder / name
        if not path.is_file():
            raise PackIncomplete(f"{path} is missing; {_REMEDY}.")
        if path.stat().st_size != size:
            raise PackDamaged(f"{path} has {path.stat().st_size} bytes instead of {size}; {_REMEDY}.")
    optional = {name: folder / name if name in manifest.files else None for name in (FAN, MASK)}
    return PreparedPack(folder, manifest, optional[FAN], optional[MASK], _mapped(folder / TENSORS))


def _mapped(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except (SafetensorError, OSError) as error:
        raise PackDamaged(f"{path} is truncated or damaged; {_REMEDY}.") from error
