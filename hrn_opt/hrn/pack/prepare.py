"""The published pack turned, once, into a compact folder that loads in a fraction of a second.

Gone are optimiser state, the depth net and half the albedo's texels; batch norms are folded, the UV layout is
rasterised. The folder appears whole or not at all: it is written under another name, and renamed when complete.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

import hrn_opt
from hrn_opt.errors import OutputUnwritable, PackError
from hrn_opt.hrn.pack import prepared
from hrn_opt.hrn.pack import published as pack
from hrn_opt.hrn.pack.assets import read_assets
from hrn_opt.hrn.pack.checkpoint import load_checkpoint
from hrn_opt.hrn.pack.home import MANIFEST
from hrn_opt.hrn.pack.manifest import COPIES, FILE_NAMES, ONNX_MASK, TENSORS, Manifest
from hrn_opt.hrn.pack.networks import NETWORKS, NetworkSpec
from hrn_opt.hrn.pack.optional import refused_files

Progress = Callable[[str, float], None]  # what is being done, and the fraction 0..1 done before it

_HASH_BLOCK_BYTES = 1 << 20


def prepare(published: Path, folder: Path, *, progress: Progress | None = None) -> Path:
    """`folder`, which then holds the prepared form of the published pack; nothing is done when it does already.

    A warning says so when files of the pack are no longer what they were when it was last prepared.
    """
    tell = progress or (lambda _step, _fraction: None)
    folder = folder.resolve()
    _refuse_other_folders(folder)
    with _alone_at(folder):
        tell("Checking the files", 0.0)
        report = pack.verify(published)
        known = _recorded_sources(folder)
        if _is_usable(folder):
            if _unchanged_at_a_glance(report, known):
                return folder
            sources = _fingerprints(report)
            if _hashes(known) == _hashes(sources):
                _remember(sources, folder)
                return folder
        made = _made(report, tell)
        tell("Writing", 0.8)
        sources = _fingerprints(report)
        _warn_of_changes(known, sources)
        with _appearing_whole(folder) as partial:
            _write(made, report, sources, partial)
    tell("Prepared", 1.0)
    return folder


@dataclasses.dataclass(frozen=True)
class _Made:
    """What the prepared pack will hold.

    tensors: of its one file.
    notes: why optional files are left out, by their path in the published pack.
    """

    tensors: dict[str, Tensor]
    notes: dict[str, str]

    def can_find(self, report: pack.PackReport) -> bool:
        return report.can_find and not any(pack.FILES[path] is pack.Part.FIND for path in self.notes)


def _made(report: pack.PackReport, tell: Progress) -> _Made:
    """An error when any file that the texture needs is not as it should be; optional ones are left out."""
    notes = refused_files(report)
    tell("Folding the networks", 0.3)
    networks = _network_tensors(report, notes)
    tell("Bringing the face model into shape", 0.6)
    return _Made(networks | _as_tensors(read_assets(report.folder)), notes)


def _as_tensors(arrays: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}


def _write(made: _Made, report: pack.PackReport, sources: Mapping[str, dict[str, Any]], folder: Path) -> None:
    """The prepared files into an empty folder, all on the disk before the manifest is written."""
    save_file(made.tensors, folder / TENSORS)
    (folder / TENSORS).chmod(0o644)  # it comes out private, and may be served to another user
    for source, name in COPIES.items():
        if source in report.sizes and source not in made.notes:
            shutil.copyfile(report.folder / source, folder / name)
    sizes = {path.name: path.stat().st_size for path in folder.iterdir()}
    for name in sizes:
        _flush(folder / name)
    Manifest(hrn_opt.__version__, made.can_find(report), sizes, sources, made.notes).write(folder)
    _flush(folder / MANIFEST)
    _flush(folder)


def _network_tensors(report: pack.PackReport, notes: dict[str, str]) -> dict[str, Tensor]:
    """Every tensor of every network whose checkpoint is there, under its name; and the two trained gains.

    notes: gets the reason for each optional checkpoint that cannot be used.
    """
    tensors: dict[str, Tensor] = {}
    for file in dict.fromkeys(spec.file for spec in NETWORKS.values()):
        if file not in report.sizes:
            continue
        try:
            tensors |= _tensors_in(report.folder / file, file)
        except PackError as error:
            if pack.FILES[file] is pack.Part.RECONSTRUCT:
                raise
            notes[file] = str(error)
    return tensors


def _tensors_in(path: Path, file: str) -> dict[str, Tensor]:
    """Those of the networks in one checkpoint. file: its path in the pack."""
    checkpoint = load_checkpoint(path)
    tensors: dict[str, Tensor] = {}
    for name, spec in NETWORKS.items():
        if spec.file == file:
            tensors |= _converted(name, spec, checkpoint)
    if file == pack.WEIGHTS:
        tensors |= {name: pack.scalar(checkpoint, name, file).clone() for name in ("alpha", "beta")}
    return tensors


def _converted(network: str, spec: NetworkSpec, checkpoint: Mapping[Any, Any]) -> dict[str, Tensor]:
    state = pack.section(checkpoint, spec.key, spec.file)
    try:
        ours = spec.from_official(state)
    except PackError as error:
        raise type(error)(f"{spec.file}: {error}") from error
    return {f"{network}.{name}": tensor.contiguous() for name, tensor in ours.items()}


def _fingerprints(report: pack.PackReport) -> dict[str, dict[str, Any]]:
    """Size, time of change and SHA-256 of each file of the pack."""
    return {
        path: {
            "size": size,
            "mtime_ns": (report.folder / path).stat().st_mtime_ns,
            "sha256": sha256(report.folder / path),
        }
        for path, size in report.sizes.items()
    }


def sha256(path: Path) -> str:
    """The file's SHA-256 in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_HASH_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _recorded_sources(folder: Path) -> Mapping[str, Mapping[str, Any]]:
    """The fingerprints of the published files that `folder` was made from; empty where there are none."""
    try:
        return Manifest.read(folder).sources
    except PackError:
        return {}


def _is_usable(folder: Path) -> bool:
    try:
        prepared.open_prepared(folder)
    except PackError:
        return False
    return True


def _unchanged_at_a_glance(report: pack.PackReport, known: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether sizes and times of change are those recorded."""
    now = {path: (size, (report.folder / path).stat().st_mtime_ns) for path, size in report.sizes.items()}
    return now == {path: (entry["size"], entry["mtime_ns"]) for path, entry in known.items()}


def _remember(sources: Mapping[str, Mapping[str, Any]], folder: Path) -> None:
    """New times of change in the manifest, so that the same files need not be hashed again."""
    with contextlib.suppress(OSError):  # only time is lost when the folder is not ours to write
        dataclasses.replace(Manifest.read(folder), sources=sources).write(folder)


def _hashes(sources: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    return {path: entry["sha256"] for path, entry in sources.items()}


def _warn_of_changes(known: Mapping[str, Mapping[str, Any]], sources: Mapping[str, Mapping[str, Any]]) -> None:
    # The publisher gives no hashes, so the first ones seen are the reference.
    before, now = _hashes(known), _hashes(sources)
    changed = [path for path in now if path in before and before[path] != now[path]]
    if changed:
        warnings.warn(
            f"{', '.join(changed)} changed since the pack was first prepared; if you did not expect that, "
            f"{pack.REMEDY}.",
            stacklevel=3,
        )


def _refuse_other_folders(folder: Path) -> None:
    """An error when `folder` holds anything that preparing would not have put there: it is replaced as a whole."""
    if folder.exists() and not folder.is_dir():
        raise OutputUnwritable(f"{folder} is a file; give a folder for the prepared pack.")
    others = {path.name for path in folder.iterdir()} - FILE_NAMES if folder.exists() else set()
    if others:
        raise OutputUnwritable(f"{folder} holds other files ({min(others)}); give a new or empty folder.")


@contextlib.contextmanager
def _alone_at(folder: Path) -> Iterator[None]:
    """Only one process at a time prepares a folder; what one that was killed left behind is removed.

    The empty lock file beside the folder stays: another process may be waiting for it.
    """
    lock = FileLock(folder.parent / f".{folder.name}.lock")
    with _write_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    try:
        for leftover in folder.parent.glob(f".{folder.name}.partial-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def _appearing_whole(folder: Path) -> Iterator[Path]:
    """An empty folder to fill, which takes `folder`'s place at the end; on an error nothing of it is left."""
    with _write_errors(folder):
        partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.partial-", dir=folder.parent))
        try:
            new = partial / "new"
            new.mkdir()
            yield new
            if (folder / ONNX_MASK).exists():  # the user's own work
                shutil.copy2(folder / ONNX_MASK, new)
            if folder.exists():
                folder.rename(partial / "old")
            new.rename(folder)
            _flush(folder.parent)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


@contextlib.contextmanager
def _write_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise OutputUnwritable(
            f"{folder} cannot be written ({reason}); free 0.6 GB of disk there, or give another folder."
        ) from error


def _flush(path: Path) -> None:
    """The file's or folder's content on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
