"""Every file of a published pack looked at on its own: what it holds, whether it is a known one, what needs it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from hrn_opt.errors import PackError
from hrn_opt.hrn.pack import assets
from hrn_opt.hrn.pack import published as pack
from hrn_opt.hrn.pack.checkpoint import load_checkpoint
from hrn_opt.hrn.pack.layouts import as_published
from hrn_opt.hrn.pack.networks import NETWORKS
from hrn_opt.hrn.pack.optional import refused_files
from hrn_opt.hrn.pack.prepare import sha256

_KEYS_SHOWN = 12
_NO_FACE = "HRN does not run; the embedded model does"
_NO_DETECTORS = "the embedded model finds the landmarks, and cheeks are not widened"
# What each file is used for, and what happens without it.
PURPOSES: dict[str, tuple[str, str]] = {
    pack.WEIGHTS: ("coarse shape, deformation and displacement", _NO_FACE),
    pack.RETOUCH_WEIGHTS: ("undoing a photo's retouching", _NO_FACE),
    pack.MORPHABLE_MODEL: ("the morphable face", _NO_FACE),
    pack.UV_COORDINATES: ("the texture's layout", _NO_FACE),
    pack.ALBEDO_MEAN: ("the mean skin", _NO_FACE),
    pack.ALBEDO_BASIS: ("how skin varies", _NO_FACE),
    pack.TEMPLATE_MESH: ("the texture's triangles", _NO_FACE),
    pack.ALIGN_POINTS: ("placing the face in its crop", _NO_FACE),
    pack.BOX_REGRESSOR: ("where the landmark networks look", _NO_FACE),
    pack.LANDMARKS106_WEIGHTS: ("106 points, for finding and for widening cheeks", _NO_DETECTORS),
    pack.RETINAFACE_WEIGHTS: ("finding faces", _NO_DETECTORS),
    pack.S3FD_WEIGHTS: ("the face in a landmark crop", _NO_DETECTORS),
    pack.FAN_ARCHIVE: ("68 landmarks", _NO_DETECTORS),
    pack.MASK_GRAPH: ("the skin mask", "segment_face.onnx, or the face's outline, stands in"),
}


@dataclass(frozen=True)
class Finding:
    """One file of a pack.

    path: in the published pack.
    size_bytes: None where it is missing.
    sha256: "" where it is missing.
    is_known: whether that is a hash listed in public; None where none is listed for this file.
    found: what it holds.
    problem: why it cannot be used; "" where it can.
    """

    path: str
    size_bytes: int | None = None
    sha256: str = ""
    is_known: bool | None = None
    found: str = ""
    problem: str = ""

    @property
    def is_needed(self) -> bool:
        return pack.FILES[self.path] is pack.Part.RECONSTRUCT


def examine(folder: Path) -> tuple[Finding, ...]:
    """A finding for every file of the pack, in the pack's order; the folder may have another layout."""
    with as_published(folder.expanduser()) as published:
        present = [path for path in pack.FILES if (published / path).is_file()]
        report = pack.PackReport(published, {path: (published / path).stat().st_size for path in present}, ())
        problems = refused_files(report) | _asset_problems(published, present)
        return tuple(
            _finding(published, path, problems.get(path, "")) if path in present else Finding(path, problem="Missing.")
            for path in pack.FILES
        )


def report_text(findings: tuple[Finding, ...]) -> str:
    """What was found, for people."""
    lines = []
    for finding in findings:
        purpose, without = PURPOSES[finding.path]
        mark = "ok" if not finding.problem else "missing" if finding.size_bytes is None else "refused"
        size = "" if finding.size_bytes is None else f"{finding.size_bytes:,} bytes"
        known = {True: "a known file", False: "NOT the file listed in public", None: "no hash is listed in public"}
        lines.append(f"{mark:8} {finding.path}  {size}")
        lines.append(f"{'':8}   for {purpose}; without it {without}")
        if finding.sha256:
            lines.append(f"{'':8}   SHA-256 {finding.sha256}: {known[finding.is_known]}")
        for text in (finding.found, finding.problem):
            if text:
                lines.append(f"{'':8}   {text}")
    usable = not any(finding.problem and finding.is_needed for finding in findings)
    lines.append("HRN can run with this pack." if usable else "HRN cannot run with this pack.")
    return "\n".join(lines)


def _asset_problems(folder: Path, present: list[str]) -> dict[str, str]:
    """Why tables of the face model cannot be used, by path; each is read as preparing reads it."""
    problems: dict[str, str] = {}

    def count() -> int:
        return len(assets.morphable_model(folder)["bfm.mean_shape"])

    readers: tuple[tuple[tuple[str, ...], Callable[[], object]], ...] = (
        ((pack.MORPHABLE_MODEL,), count),
        ((pack.ALBEDO_MEAN, pack.ALBEDO_BASIS), lambda: assets.albedo(folder)),
        ((pack.MORPHABLE_MODEL, pack.UV_COORDINATES, pack.TEMPLATE_MESH), lambda: assets.layout(folder, count())),
        ((pack.ALIGN_POINTS, pack.BOX_REGRESSOR), lambda: assets.alignment(folder)),
    )
    for paths, read in readers:
        if all(path in present and path not in problems for path in paths):
            try:
                read()
            except PackError as error:
                blamed = [path for path in paths if PurePosixPath(path).name in str(error)] or list(paths)
                problems |= dict.fromkeys(blamed, str(error))
    return problems


def _finding(folder: Path, path: str, problem: str) -> Finding:
    file = folder / path
    digest, known = sha256(file), pack.KNOWN_SHA256.get(path)
    found = ""
    try:
        found = "" if problem else _content(file, path)
    except PackError as error:
        problem = str(error)
    return Finding(path, file.stat().st_size, digest, None if known is None else digest == known, found, problem)


def _content(file: Path, path: str) -> str:
    """What a file holds; raises PackError where a checkpoint is not what it should be."""
    specs = {name: spec for name, spec in NETWORKS.items() if spec.file == path}
    if not specs:
        return "Read as it should be."
    checkpoint = load_checkpoint(file)
    counts = []
    for name, spec in specs.items():
        state = pack.section(checkpoint, spec.key, path)
        spec.from_official(state)
        counts.append(f"{name} has {len(state)} tensors, names and shapes as expected")
    keys = [str(key) for key in checkpoint]
    shown = ", ".join(keys[:_KEYS_SHOWN]) + f" and {len(keys) - _KEYS_SHOWN} more" * (len(keys) > _KEYS_SHOWN)
    return f"{'; '.join(counts)}. Its keys: {shown}."
