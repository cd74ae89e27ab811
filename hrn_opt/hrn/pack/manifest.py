"""What a prepared pack is made of, as its manifest says; needs no torch, so that the server can ask on every page."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

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

    def check_files(self, folder: Path) -> None:
        """PackIncomplete or PackDamaged where a file is missing or has another size."""
        for name, size in self.files.items():
            path = folder / name
            if not path.is_file():
                raise PackIncomplete(f"{path} is missing; {_REMEDY}.")
            if path.stat().st_size != size:
                raise PackDamaged(f"{path} has {path.stat().st_size} bytes instead of {size}; {_REMEDY}.")

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
