"""What was done to one photo, as plain values for JSON: the command line's `<stem>.report.json`."""

from __future__ import annotations

import json
import platform
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from hrn_opt import __version__
from hrn_opt.types import Face, Photo, Reconstruction

_PACKAGES = ("torch", "numpy", "pillow")
_SECONDS_DIGITS = 6


@dataclass(frozen=True)
class FaceOutput:
    """One reconstructed face and the files it was written to."""

    reconstruction: Reconstruction
    files: tuple[Path, ...]


@dataclass(frozen=True)
class PhotoRun:
    """One photo's way through the command line.

    source: the photo's path as it was given.
    device, precision: what the model ran on, and in which number format.
    faces: all that were found, largest first.
    find_seconds: opening is not counted, nor is loading the model.
    """

    source: str
    photo: Photo
    model: str
    device: str
    precision: str
    faces: tuple[Face, ...]
    find_seconds: float
    outputs: tuple[FaceOutput, ...]


def run_report(run: PhotoRun) -> dict[str, Any]:
    """The report of a photo that went through; every value is a string, a number, a list or a dict."""
    height, width = run.photo.size_hw
    return {
        "photo": run.source,
        "width": width,
        "height": height,
        "model": run.model,
        "device": run.device,
        "precision": run.precision,
        "find_seconds": round(run.find_seconds, _SECONDS_DIGITS),
        "faces": [_face(number, face) for number, face in enumerate(run.faces, 1)],
        "reconstructed": [_output(output) for output in run.outputs],
        "versions": versions(),
    }


def error_report(source: str, error: Exception) -> dict[str, Any]:
    """The report of a photo that could not be used."""
    return {"photo": source, "error": {"kind": type(error).__name__, "message": str(error)}}


def as_line(report: dict[str, Any]) -> str:
    """The report as one line of ASCII JSON: file names need not be valid Unicode, nor the terminal UTF-8."""
    return json.dumps(report, allow_nan=False)


def as_file(report: dict[str, Any]) -> bytes:
    """The report as an indented JSON file."""
    return (json.dumps(report, indent=2, allow_nan=False) + "\n").encode()


def versions() -> dict[str, str]:
    """Versions of this program, of Python and of the packages that decide the numbers."""
    installed = {package: metadata.version(package) for package in _PACKAGES}
    return {"hrn_opt": __version__, "python": platform.python_version(), **installed}


def _face(number: int, face: Face) -> dict[str, Any]:
    box = {side: round(float(value), 2) for side, value in asdict(face.box).items()}
    return {"number": number, "box": box, "score": round(float(face.score), 4)}


def _output(output: FaceOutput) -> dict[str, Any]:
    done = output.reconstruction
    return {
        "face": done.face_index + 1,  # as people count, like the file names
        "stages": [
            {"stage": timing.stage.value, "seconds": round(timing.seconds, _SECONDS_DIGITS)} for timing in done.timings
        ],
        "seconds": round(done.seconds, _SECONDS_DIGITS),
        "texture_px": done.texture.size,
        "vertices": len(done.mesh.vertices) if done.mesh else None,
        "triangles": len(done.mesh.faces) if done.mesh else None,
        "advice": [advice.message for advice in done.advice],
        "mask_source": done.mask_source or None,  # of HRN's skin mask
        "files": [str(path) for path in output.files],
    }
