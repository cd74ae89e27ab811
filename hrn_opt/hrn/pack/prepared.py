"""A prepared pack: one file of tensors, mapped into memory, beside two files that are kept as published.

Folder: `hrn.safetensors`, `fan.torchscript.zip` and `segment_face.pb` (each where the published pack had it) and
`manifest.json`, which is written last: a folder without it is not a prepared pack.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from hrn_opt.errors import PackDamaged, PackIncomplete
from hrn_opt.hrn.pack.manifest import FAN, MASK, TENSORS, Manifest
from hrn_opt.program import FETCH

_REMEDY = f"prepare the pack again ({FETCH})"


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
    manifest.check_files(folder)
    optional = {name: folder / name if name in manifest.files else None for name in (FAN, MASK)}
    return PreparedPack(folder, manifest, optional[FAN], optional[MASK], _mapped(folder / TENSORS))


def _mapped(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except (SafetensorError, OSError) as error:
        raise PackDamaged(f"{path} is truncated or damaged; {_REMEDY}.") from error
