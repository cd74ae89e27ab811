"""ICC profiles of colours that a file describes in another way: PNG's gAMA, cHRM and cICP, and HEIC's and AVIF's nclx.

So that one mechanism, littlecms, converts them all.
"""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

_D50 = np.array([0.9642, 1.0, 0.8249])  # the white of every ICC profile
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
_D65 = (0.3127, 0.3290)
_SRGB = (*_D65, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)  # white, red, green and blue as (x, y)
# ITU-T H.273, colour primaries; those of old television differ from sRGB's by less than cameras do.
_PRIMARIES = {
    9: (*_D65, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046),  # BT.2020
    11: (0.314, 0.351, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),  # DCI-P3
    12: (*_D65, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),  # Display P3
}
_EXPONENTS = {4: 2.2, 5: 2.8, 8: 1.0}  # H.273, transfer characteristics; the others for SDR are shown as sRGB is
_HDR = (16, 18)  # PQ and HLG: no exponent
_SRGB_GAMMA = 0.45455  # writers put this for sRGB, whose curve it comes near
_CURVE_POINTS = 1024


def of_png(notes: dict[bytes, bytes], grey: bool) -> bytes | None:
    """Of a PNG without an ICC profile, in the standard's order of rank: cICP, sRGB, then gAMA with cHRM."""
    if len(notes.get(b"cICP", b"")) == 4:
        return of_code_points(notes[b"cICP"][0], notes[b"cICP"][1], grey)
    if b"sRGB" in notes or len(notes.get(b"gAMA", b"")) != 4:
        return None
    gamma = int.from_bytes(notes[b"gAMA"], "big") / 100_000
    primaries = _SRGB
    if len(notes.get(b"cHRM", b"")) == 32:
        primaries = tuple(value / 100_000 for value in struct.unpack(">8I", notes[b"cHRM"]))
    exponent = None if abs(gamma - _SRGB_GAMMA) < 0.005 else 1 / gamma if 0.1 < gamma < 4 else None
    return _profile(exponent, primaries, grey)


def of_code_points(primaries: int, transfer: int, grey: bool = False) -> bytes | None:
    """Of H.273's numbers; nothing where they mean sRGB, or say nothing that can be obeyed."""
    if transfer in _HDR or (primaries not in _PRIMARIES and transfer not in _EXPONENTS):
        return None
    return _profile(_EXPONENTS.get(transfer), _PRIMARIES.get(primaries, _SRGB), grey)


def of_media_file(head: bytes) -> bytes | None:
    """Of a HEIC or AVIF file's nclx box, which stands among its first bytes."""
    at = head.find(b"colrnclx")
    return of_code_points(*struct.unpack_from(">HH", head, at + 8)) if 0 <= at <= len(head) - 12 else None


def _profile(exponent: float | None, primaries: tuple[float, ...], grey: bool) -> bytes | None:
    """exponent: from stored values to light; None for sRGB's curve."""
    curve = _curve(exponent)
    tags = {b"wtpt": _xyz(_D50)}
    if grey:
        tags[b"kTRC"] = curve
    else:
        columns = _columns(primaries)
        if columns is None:
            return None
        for number, colour in enumerate((b"r", b"g", b"b")):
            tags[colour + b"XYZ"] = _xyz(columns[:, number])
            tags[colour + b"TRC"] = curve
    table, contents = b"", b""
    first = 128 + 4 + 12 * len(tags)
    for name, content in tags.items():
        table += struct.pack(">4sII", name, first + len(contents), len(content))
        contents += content
    body = struct.pack(">I", len(tags)) + table + contents
    space = b"GRAY" if grey else b"RGB "
    head = struct.pack(">I4xI4s4s4s12x4s", 128 + len(body), 0x02400000, b"mntr", space, b"XYZ ", b"acsp")
    head = head.ljust(68, b"\0") + struct.pack(">3i", *(round(value * 65536) for value in _D50))
    return head.ljust(128, b"\0") + body


def _columns(primaries: tuple[float, ...]) -> NDArray[np.float64] | None:
    """(3, 3) XYZ of red, green and blue under the profiles' white; None for primaries that span no colours."""
    x, y = np.array(primaries).reshape(4, 2).T
    if (y <= 0).any():
        return None
    xyz = np.stack((x / y, np.ones(4), (1 - x - y) / y))  # (3, 4): white, red, green, blue
    white, colours = xyz[:, 0], xyz[:, 1:]
    if abs(np.linalg.det(colours)) < 1e-4:
        return None
    scaled = colours * np.linalg.solve(colours, white)
    adapt = np.linalg.inv(_BRADFORD) @ np.diag((_BRADFORD @ _D50) / (_BRADFORD @ white)) @ _BRADFORD
    columns: NDArray[np.float64] = adapt @ scaled
    return columns


def _xyz(values: NDArray[np.float64]) -> bytes:
    return struct.pack(">4s4x3i", b"XYZ ", *(round(float(value) * 65536) for value in values))


def _curve(exponent: float | None) -> bytes:
    stored = np.linspace(0, 1, _CURVE_POINTS)
    if exponent is None:
        light = np.where(stored <= 0.04045, stored / 12.92, ((stored + 0.055) / 1.055) ** 2.4)
    else:
        light = stored**exponent
    levels: NDArray[np.uint16] = (light * 65535).round().astype(">u2")
    return struct.pack(">4s4xI", b"curv", _CURVE_POINTS) + levels.tobytes()
