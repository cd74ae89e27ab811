"""hrn-opt make: photos in, textured faces and a report out.

The engine, and torch with it, is imported only once the options are known to be well formed.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hrn_opt.cli.terminal import EXIT_MACHINE, clear_progress, exit_code, run_command, say, show_progress
from hrn_opt.errors import FaceUnusable, HrnOptError
from hrn_opt.program import FETCH, PROGRAM

if TYPE_CHECKING:
    from hrn_opt.output.report import PhotoRun
    from hrn_opt.pipeline import Reconstructor
    from hrn_opt.types import Reconstruction

_NAME_ENDING = re.compile(r"\.[A-Za-z]\w{2,4}$")
_OPTION = re.compile(r"-h|--[a-z-]*(=.*)?", re.DOTALL)


def main(arguments: Sequence[str], load: Callable[..., Reconstructor] | None = None) -> int:
    """The exit code. load: stands in for hrn_opt.load, for tests."""
    options = _parser().parse_args(_dashes_marked(list(arguments)))
    return run_command(lambda: _make_all(options, load or _load))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"{PROGRAM} make", description="Make a textured 3D face from each photo.", allow_abbrev=False
    )
    parser.add_argument("photos", nargs="+", metavar="PHOTO", help="JPEG, PNG, WebP, HEIC, AVIF, TIFF, BMP or GIF")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="output folder; made if missing")
    parser.add_argument(
        "--texture-size", type=int, default=1024, metavar="N", help="512 to 4096 px, HRN also 256 (default 1024)"
    )
    parser.add_argument(
        "--face", type=_face_choice, default="largest", metavar="largest|all|K", help="K counts from 1, the largest"
    )
    parser.add_argument(
        "--formats",
        type=_comma_list,
        default=("png", "glb", "obj"),
        metavar="png,glb,obj",
        help="default: these three; also clay, turntable, and from HRN normal, displacement, dense, lit",
    )
    parser.add_argument(
        "--model",
        default="auto",
        metavar="auto|builtin|hrn|FOLDER",
        help=f"FOLDER: an HRN pack, published or prepared (default auto: HRN where {FETCH} put it)",
    )
    _add_machine_options(parser)
    parser.add_argument(
        "--overwrite", action="store_true", help="replace files in DIR also where this command did not make them"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON report a photo on standard output")
    return parser


def _dashes_marked(argv: list[str]) -> list[str]:
    """The arguments, a photo whose name begins with a dash written as ./-name, which is no option.

    One that is not there is told from a mistyped option by its ending, so that it is missed under its name.
    """
    end = argv.index("--") if "--" in argv else len(argv)

    def is_photo(text: str) -> bool:
        if not text.startswith("-") or _OPTION.fullmatch(text):
            return False
        return bool(_NAME_ENDING.search(text)) or Path(text).is_file()

    return [f"./{text}" if is_photo(text) else text for text in argv[:end]] + argv[end:]


def _add_machine_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("where HRN runs; the embedded model takes none of these")
    group.add_argument("--device", default="auto", metavar="auto|cpu|cuda|cuda:N", help="default: auto")
    group.add_argument(
        "--precision", default="auto", metavar="auto|fp32|bf16|fp16", help="default auto: fp32 on a CPU, else fp16"
    )
    group.add_argument("--memory", type=_memory, default="auto", metavar="auto|GIB", help="of the device, such as 0.5")
    group.add_argument("--offload-folder", type=Path, metavar="DIR", help="for weights that fit nowhere else")


def _memory(text: str) -> str | float:
    if text == "auto":
        return text
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not 'auto' or a number of GiB, such as 0.5") from None


def _face_choice(text: str) -> str | int:
    if text in ("largest", "all"):
        return text
    if text.isdecimal() and int(text) > 0:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not 'largest', 'all' or a face number from 1")


def _comma_list(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _load(name: str, **options: Any) -> Reconstructor:
    import hrn_opt
    from hrn_opt.runtime import keep_freed_memory, use_usable_cpus

    keep_freed_memory()
    use_usable_cpus()
    return hrn_opt.load(name, **options)


def _make_all(options: argparse.Namespace, load: Callable[..., Reconstructor]) -> int:
    from hrn_opt.output.export import check_formats
    from hrn_opt.output.outputs import output_stems
    from hrn_opt.output.report import as_line, error_report

    check_formats(options.formats)
    model = load(
        options.model,
        device=options.device,
        precision=options.precision,
        memory=options.memory,
        offload_folder=options.offload_folder,
    )
    code = 0
    for source, stem in zip(options.photos, output_stems(options.photos, options.out, options.formats), strict=True):
        try:
            report, line = _one_photo(model, source, stem, options)
        except HrnOptError as error:
            code = max(code, exit_code(error))
            report, line = error_report(source, error), ""
            clear_progress()
            say(f"{source}: {error}", sys.stderr)
        if (options.json or line) and not say(as_line(report) if options.json else line, sys.stdout):
            code = max(code, EXIT_MACHINE)
    return code


def _one_photo(model: Reconstructor, source: str, stem: str, options: argparse.Namespace) -> tuple[dict[str, Any], str]:
    """Its report and its line for the terminal. Each face's files are written with the report of all so far, so that
    they are known for this command's own whatever happens to a later face."""
    from hrn_opt.output.outputs import check_free, made_earlier

    if not options.overwrite:
        check_free(options.out, stem, options.formats, options.face == "all")
    report: dict[str, Any] = {"made": made_earlier(options.out, stem)}  # of other formats or faces: they stay known
    run = _found(model, source)
    named = {"all": range(len(run.faces)), "largest": range(1)}
    chosen = named.get(options.face) or [options.face - 1]  # stream() refuses a number past the last face
    for position, face in enumerate(chosen):
        label = f"{Path(source).name}, face {position + 1} of {len(chosen)}"
        try:
            done = _reconstruct(model, run, face, label, options)
        except FaceUnusable as refusal:
            if options.face != "all" or (face == len(run.faces) - 1 and not run.outputs):
                raise
            clear_progress()
            say(f"{label} is left out: {refusal}", sys.stderr)
            continue
        run, report = _written(run, done, stem, report["made"], options)
        clear_progress()
    return report, _summary(run)


def _found(model: Reconstructor, source: str) -> PhotoRun:
    """The photo opened and its faces found; nothing made of them yet."""
    from hrn_opt.output.report import PhotoRun
    from hrn_opt.photo import open_photo

    photo = open_photo(source)
    start = time.perf_counter()
    faces = model.find(photo)
    return PhotoRun(source, photo, model.name, model.device, model.precision, faces, time.perf_counter() - start, ())


def _reconstruct(
    model: Reconstructor, run: PhotoRun, face: int, label: str, options: argparse.Namespace
) -> Reconstruction:
    from hrn_opt.output.export import want_for

    want, size = want_for(options.formats), options.texture_size
    reconstruction: Reconstruction | None = None
    for event in model.stream(run.photo, face=face, faces=run.faces, want=want, texture_size=size):
        show_progress(event.fraction, f"{label}: {event.stage.value}")
        reconstruction = event.reconstruction
    assert reconstruction is not None, "the last event of stream() carries the reconstruction"
    return reconstruction


def _written(
    run: PhotoRun, done: Reconstruction, stem: str, made: dict[str, str], options: argparse.Namespace
) -> tuple[PhotoRun, dict[str, Any]]:
    """The run with one face more, and its report. Of the face's files all are there with the report, or none is.

    made: what was made under this stem before, by name, with its SHA-256.
    """
    from hrn_opt.output.export import contents_of, place
    from hrn_opt.output.outputs import REPORT_ENDING, digest_of, sealed
    from hrn_opt.output.report import FaceOutput, as_file, run_report

    face_stem = f"{stem}-face{done.face_index + 1}" if options.face == "all" else stem
    contents = contents_of(done, options.formats, face_stem)
    output = FaceOutput(done, tuple(options.out / name for name in contents))
    run = replace(run, outputs=(*run.outputs, output))
    made = made | {name: digest_of(content) for name, content in contents.items()}
    report = sealed(run_report(run) | {"made": made})
    # The report goes first: a process that is killed in between leaves names without files, not files without a name.
    place({f"{stem}{REPORT_ENDING}": as_file(report), **contents}, options.out)
    return run, report


def _summary(run: PhotoRun) -> str:
    seconds = run.find_seconds + sum(output.reconstruction.seconds for output in run.outputs)
    files = " ".join(str(path) for output in run.outputs for path in output.files)
    return f"{run.source}: {len(run.outputs)} of {len(run.faces)} faces with {run.model} in {seconds:.2f} s: {files}"
