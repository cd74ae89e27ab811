"""Writing a reconstruction: texture as PNG, mesh as GLB and as OBJ + MTL, detail and turntable; all of it or nothing.

Both mesh formats are in metres, y up, the face looking along +z: our model frame, scaled from decimetres.
"""

from __future__ import annotations

import io
import os
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from hrn_opt.errors import OptionInvalid, OutputUnwritable
from hrn_opt.output.glb import GENERATOR, EncodedImage, MaterialSpec, glb, mesh_arrays
from hrn_opt.output.names import safe_stem
from hrn_opt.output.turntable import webp_bytes
from hrn_opt.types import DetailMaps, Mesh, Reconstruction, Want

FORMATS = ("png", "glb", "obj")  # what every reconstruction with a mesh can give
# How much must have been asked for, so that there is something to write.
WANT_OF_FORMAT = {
    "png": Want.TEXTURE,
    "glb": Want.MESH,
    "obj": Want.MESH,
    "clay": Want.MESH,
    "normal": Want.DETAIL,
    "displacement": Want.DETAIL,
    "dense": Want.DETAIL,
    "lit": Want.DETAIL,
    "turntable": Want.TURNTABLE,
}
# What each writes after the stem; a test holds it against `write`.
_ENDINGS = {
    "png": (".png",),
    "glb": (".glb",),
    "obj": (".obj", ".mtl", ".png"),
    "clay": (".clay.glb",),
    "normal": (".normal.png",),
    "dense": (".dense.glb",),
    "lit": (".lit.glb",),
    "turntable": (".turntable.webp",),
}
DISPLACEMENT_RANGE_MM = 20  # black to white; a step of 16 bits is 0.3 µm. Doubled until the face fits.
_DISPLACEMENT_ZERO = 1 << 15
_JPEG_ABOVE_PX = 2048  # a 4096 px texture is 27 MB and 1.8 s as PNG, 3.8 MB and 0.09 s as JPEG 95; 2048: 6.9 MB, 0.4 s


def write(
    reconstruction: Reconstruction,
    folder: str | os.PathLike[str],
    formats: Iterable[str] = FORMATS,
    stem: str | None = None,
) -> tuple[Path, ...]:
    """Paths of the files written: `stem.png`, `stem.glb`, `stem.obj` and `stem.mtl`, as the formats ask.

    "clay" adds `stem.clay.glb`, the mesh in grey. From a reconstruction with detail also "normal" (`stem.normal.png`),
    "displacement" (`stem.displacement_20mm.png`, 16 bit), "dense" (`stem.dense.glb`, the displaced surface) and "lit"
    (`stem.lit.glb`, the mesh with its normal map; both take the viewer's light, as detail shows in nothing else). With
    one, "turntable" (`stem.turntable.webp`).

    All of them appear, replacing files of the same names, or none does and the folder is as it was before; a missing
    folder is made. "obj" always writes the PNG too, as its material needs it. stem: the photo's name by default.
    """
    formats = check_formats(formats)
    stem = safe_stem(stem if stem is not None else reconstruction.photo_name)
    return place(contents_of(reconstruction, formats, stem), folder)


def check_formats(formats: Iterable[str]) -> tuple[str, ...]:
    """The formats as a tuple; at least one, each known."""
    formats = (formats,) if isinstance(formats, str) else tuple(formats)
    unknown = [name for name in formats if name not in WANT_OF_FORMAT]
    if unknown or not formats:
        asked = ", ".join(map(repr, unknown)) or "nothing"
        raise OptionInvalid(f"Cannot export {asked}; choose from {', '.join(WANT_OF_FORMAT)}.")
    return formats


def file_endings(formats: Iterable[str]) -> tuple[str, ...]:
    """What the names of the files that `write` makes of these formats end in, after the stem."""
    endings = [ending for name in formats for ending in _ENDINGS.get(name, ())]
    if "displacement" in formats:  # which of them depends on the face; a metre is more than any has
        endings += [f".displacement_{DISPLACEMENT_RANGE_MM * 2**doubled}mm.png" for doubled in range(7)]
    return tuple(dict.fromkeys(endings))


def want_for(formats: Iterable[str]) -> Want:
    """The least that must be asked of the model to write these formats."""
    return max((WANT_OF_FORMAT[name] for name in check_formats(formats)), key=lambda want: want.level)


def png_bytes(rgb: NDArray[np.uint8]) -> bytes:
    """The picture, (H, W, 3) uint8, as PNG.

    Run-length coding after PNG's own filters is both faster and smaller than level 1 on textures: 1024² of a noisy
    face takes 100 ms and 1.5 MB instead of 113 ms and 1.8 MB (level 6: 450 ms, 1.5 MB).
    """
    return _encoded(rgb, "PNG", compress_level=1, compress_type=zlib.Z_RLE)


def glb_bytes(reconstruction: Reconstruction, textured: bool = True) -> bytes:
    """The mesh as one binary glTF 2.0 file.

    textured: with the texture embedded and unlit, as the photo's light is baked into it: PNG up to 2048 px, above
    that JPEG (quality 95, full chroma). Otherwise grey clay that takes the viewer's light.
    """
    mesh = _mesh_of(reconstruction)
    return glb(mesh, MaterialSpec(_embedded(reconstruction.texture.rgb), lit=False) if textured else MaterialSpec())


def lit_glb_bytes(reconstruction: Reconstruction) -> bytes:
    """The mesh with its texture, normal map and tangents; it takes the viewer's light on top of the photo's."""
    maps = _detail_of(reconstruction)
    normal_map = EncodedImage(png_bytes(maps.normal_map), "image/png")
    return glb(_mesh_of(reconstruction), MaterialSpec(_embedded(reconstruction.texture.rgb), normal_map=normal_map))


def dense_glb_bytes(reconstruction: Reconstruction) -> bytes:
    """The displaced surface with the texture; it takes the viewer's light, as `lit_glb_bytes` does."""
    return glb(_detail_of(reconstruction).dense_mesh, MaterialSpec(_embedded(reconstruction.texture.rgb)))


def displacement_range_mm(displacement_map: NDArray[np.float32]) -> int:
    """Millimetres from black to white of `displacement_png` for this map."""
    range_mm = DISPLACEMENT_RANGE_MM
    while np.abs(displacement_map).max() * (100 / range_mm) > 0.5:  # decimetres
        range_mm *= 2
    return range_mm


def displacement_png(displacement_map: NDArray[np.float32]) -> bytes:
    """The map (S, S), decimetres, as a 16-bit grey PNG: 32768 is no displacement, more is outwards."""
    range_mm = displacement_range_mm(displacement_map)
    levels = np.round(displacement_map * (100 / range_mm) * 65535) + _DISPLACEMENT_ZERO
    note = PngInfo()
    note.add_text("Comment", f"displacement in mm = (value - {_DISPLACEMENT_ZERO}) / 65535 * {range_mm}")
    return _encoded(levels.clip(0, 65535).astype(np.uint16), "PNG", pnginfo=note)


def obj_text(mesh: Mesh, mtl_name: str) -> str:
    """The mesh as Wavefront OBJ, in metres, with its material in the file `mtl_name`."""
    arrays = mesh_arrays(mesh)
    corners = np.array([f"{i}/{i}/{i}" for i in range(1, len(arrays.vertices) + 1)], dtype=object)
    return "".join(
        (
            f"# {GENERATOR}; unit: metre; y up, the face looks along +z\nmtllib {mtl_name}\no face\n",
            _lines("v %.6f %.6f %.6f\n", arrays.vertices),
            _lines("vt %.6f %.6f\n", arrays.uv),
            _lines("vn %.4f %.4f %.4f\n", arrays.normals),
            "usemtl skin\n",
            _lines("f %s %s %s\n", corners[arrays.faces]),
        )
    )


def mtl_text(texture_name: str) -> str:
    """The material of `obj_text`: the texture as it is (Kd 1), no highlight, meant unlit."""
    return f"newmtl skin\nKa 0 0 0\nKd 1 1 1\nKs 0 0 0\nd 1\nillum 1\nmap_Kd {texture_name}\n"


def place(contents: Mapping[str, bytes], folder: str | os.PathLike[str]) -> tuple[Path, ...]:
    """Paths of the files, one for each name in `contents`, put into the folder together or not at all."""
    folder = Path(folder)
    try:
        with _made(folder), tempfile.TemporaryDirectory(prefix=".hrn_opt-", dir=folder) as scratch:
            for name, content in contents.items():
                (Path(scratch) / name).write_bytes(content)
            _move_all(Path(scratch), folder, tuple(contents))
    except (OSError, ValueError) as error:  # ValueError: a NUL character in the path
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        raise OutputUnwritable(f"Cannot write to {str(folder)!r} ({reason}); choose another folder.") from error
    return tuple(folder / name for name in contents)


@contextmanager
def _made(folder: Path) -> Iterator[None]:
    """The folder, made with its parents; what was made is removed again when the body fails."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    made = []
    try:
        for path in reversed(missing):
            path.mkdir(exist_ok=True)
            made.append(path)
        yield
    except BaseException:  # also KeyboardInterrupt: Ctrl-C leaves nothing behind
        for path in reversed(made):
            with suppress(OSError):  # somebody else has put a file there meanwhile: it stays
                path.rmdir()
        raise


def _move_all(scratch: Path, folder: Path, names: tuple[str, ...]) -> None:
    """Moves the named files from scratch into the folder; on failure puts the old ones back."""
    aside = scratch / "replaced"
    aside.mkdir()
    try:
        for name in names:
            if (folder / name).is_dir():
                raise IsADirectoryError(None, f"{name} is a folder")
            if (folder / name).exists():
                os.replace(folder / name, aside / name)
            os.replace(scratch / name, folder / name)
    except BaseException:
        for name in names:
            if not (scratch / name).exists():
                (folder / name).unlink(missing_ok=True)
            if (aside / name).exists():
                os.replace(aside / name, folder / name)
        raise


def contents_of(reconstruction: Reconstruction, formats: tuple[str, ...], stem: str) -> dict[str, bytes]:
    """File name → bytes, every file encoded before the first is written; the PNG is encoded once."""
    contents = {}
    texture_rgb = reconstruction.texture.rgb
    if "png" in formats or "obj" in formats:
        contents[f"{stem}.png"] = png_bytes(texture_rgb)
    if "glb" in formats:
        contents[f"{stem}.glb"] = glb(
            _mesh_of(reconstruction), MaterialSpec(_embedded(texture_rgb, contents.get(f"{stem}.png")), lit=False)
        )
    if "obj" in formats:
        contents[f"{stem}.obj"] = obj_text(_mesh_of(reconstruction), f"{stem}.mtl").encode()
        contents[f"{stem}.mtl"] = mtl_text(f"{stem}.png").encode()
    if "clay" in formats:
        contents[f"{stem}.clay.glb"] = glb_bytes(reconstruction, textured=False)
    return contents | _extra_contents(reconstruction, formats, stem)


def _extra_contents(reconstruction: Reconstruction, formats: tuple[str, ...], stem: str) -> dict[str, bytes]:
    """File name → bytes of the formats that only a detailed or turning face has."""
    contents = {}
    if "normal" in formats:
        contents[f"{stem}.normal.png"] = png_bytes(_detail_of(reconstruction).normal_map)
    if "displacement" in formats:
        displacement = _detail_of(reconstruction).displacement_map
        name = f"{stem}.displacement_{displacement_range_mm(displacement)}mm.png"
        contents[name] = displacement_png(displacement)
    if "dense" in formats:
        contents[f"{stem}.dense.glb"] = dense_glb_bytes(reconstruction)
    if "lit" in formats:
        contents[f"{stem}.lit.glb"] = lit_glb_bytes(reconstruction)
    if "turntable" in formats:
        contents[f"{stem}.turntable.webp"] = webp_bytes(_turntable_of(reconstruction))
    return contents


def _mesh_of(reconstruction: Reconstruction) -> Mesh:
    if reconstruction.mesh is None:
        raise OptionInvalid('GLB and OBJ need a mesh; reconstruct with want="mesh", or export only "png".')
    return reconstruction.mesh


def _detail_of(reconstruction: Reconstruction) -> DetailMaps:
    if reconstruction.detail is None:
        raise OptionInvalid(
            'Formats normal, displacement, dense and lit need detail; reconstruct with want="detail" and the HRN model.'
        )
    return reconstruction.detail


def _turntable_of(reconstruction: Reconstruction) -> tuple[NDArray[np.uint8], ...]:
    if reconstruction.turntable is None:
        raise OptionInvalid('The turntable has not been made; reconstruct with want="turntable".')
    return reconstruction.turntable


def _lines(pattern: str, rows: NDArray[Any]) -> str:
    """One formatted line a row; a single % over the whole table is ten times as fast as np.savetxt."""
    return (pattern * len(rows)) % tuple(rows.ravel().tolist())


def _embedded(rgb: NDArray[np.uint8], png: bytes | None = None) -> EncodedImage:
    """The texture as a GLB carries it; `png` is the same picture when it has been encoded already."""
    if rgb.shape[0] > _JPEG_ABOVE_PX:
        return EncodedImage(_encoded(rgb, "JPEG", quality=95, subsampling=0), "image/jpeg")
    return EncodedImage(png or png_bytes(rgb), "image/png")


def _encoded(picture: NDArray[Any], file_format: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, file_format, **options)
    return stream.getvalue()
