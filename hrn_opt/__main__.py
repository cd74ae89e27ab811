"""Command line: photos in, textured faces out.  python -m hrn_opt PHOTO [PHOTO ...] --out DIR

Exit codes: 0 all done, 2 a photo or an option could not be used, 1 the machine could not do it, 130 stopped by Ctrl-C.
The engine, and torch with it, is imported only once the options are known to be well formed.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from getpass import getpass
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from hrn_opt.errors import FaceUnusable, HrnOptError, InputError, OptionInvalid

if TYPE_CHECKING:
    from hrn_opt.output.report import PhotoRun
    from hrn_opt.types import Reconstruction

_EXIT_INPUT, _EXIT_MACHINE, _EXIT_INTERRUPTED = 2, 1, 130
_BAR_CELLS = 30
_NAME_ENDING = re.compile(r"\.[A-Za-z]\w{2,4}$")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")  # they end lines, or steer the terminal
_OPTION = re.compile(r"-h|--[a-z-]*(=.*)?", re.DOTALL)


def main(argv: list[str] | None = None, load: Callable | None = None) -> int:
    """The exit code. load: stands in for hrn_opt.load, for tests."""
    argv = sys.argv[1:] if argv is None else argv
    if argv[:1] == ["hash-password"]:
        return _hash_password(argv[1:])
    options = _parser().parse_args(_dashes_marked(argv))
    try:
        return _run(options, load or _load)
    except KeyboardInterrupt:
        _clear_progress()
        return _EXIT_INTERRUPTED
    except HrnOptError as error:
        _say(f"hrn_opt: {error}", sys.stderr)
        return _exit_code(error)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m hrn_opt", description="Make a textured 3D face from each photo.", allow_abbrev=False
    )
    parser.add_argument("photos", nargs="+", metavar="PHOTO", help="JPEG, PNG, WebP, HEIC, AVIF, TIFF, BMP or GIF")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="output folder; made if missing")
    parser.add_argument(
        "--texture-size", type=int, default=1024, metavar="N", help="512 to 4096 px, HRN also 256 (default 1024)"
    )
    parser.add_argument(
        "--face", type=_face_choice, default="largest", metavar="largest|all|K", help="K counts from 0, the largest"
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
        help="FOLDER: an HRN pack, published or prepared (default auto: HRN where ./start.sh fetch put it)",
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


def _hash_password(argv: list[str]) -> int:
    """Prints a user's line for the page, from a password that is typed, or piped, but never an argument."""
    parser = argparse.ArgumentParser(
        prog="python -m hrn_opt hash-password", description="Make a user of the page: HRN_OPT_USERS takes the line."
    )
    parser.add_argument("name", metavar="NAME")
    name = parser.parse_args(argv).name
    from hrn_opt.web.access import hash_password, read_users

    try:
        line = f"{name}:{hash_password(getpass('Password: ') if sys.stdin.isatty() else sys.stdin.readline().rstrip())}"
        if list(read_users(line).hashes) != [name]:
            raise OptionInvalid(f"{name!r} is no name; use one without colons, commas and outer spaces.")
    except HrnOptError as error:
        _say(f"hrn_opt: {error}", sys.stderr)
        return _exit_code(error)
    return 0 if _say(line, sys.stdout) else _EXIT_MACHINE


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
    if text.isdecimal():
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not 'largest', 'all' or a face number from 0")


def _comma_list(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _load(name: str, **options):
    import hrn_opt
    from hrn_opt.runtime import keep_freed_memory

    keep_freed_memory()
    return hrn_opt.load(name, **options)


def _run(options: argparse.Namespace, load: Callable) -> int:
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
    exit_code = 0
    for source, stem in zip(options.photos, output_stems(options.photos, options.out, options.formats), strict=True):
        try:
            report, line = _one_photo(model, source, stem, options)
        except HrnOptError as error:
            exit_code = max(exit_code, _exit_code(error))
            report, line = error_report(source, error), None
            _clear_progress()
            _say(f"{source}: {error}", sys.stderr)
        if (options.json or line) and not _say(as_line(report) if options.json else line, sys.stdout):
            exit_code = max(exit_code, _EXIT_MACHINE)
    return exit_code


def _one_photo(model, source: str, stem: str, options: argparse.Namespace) -> tuple[dict, str]:
    """Its report and its line for the terminal. Each face's files are written with the report of all so far, so that
    they are known for this command's own whatever happens to a later face."""
    from hrn_opt.output.outputs import check_free, made_earlier

    if not options.overwrite:
        check_free(options.out, stem, options.formats, options.face == "all")
    report = {"made": made_earlier(options.out, stem)}  # of other formats or faces: they stay known
    run = _found(model, source)
    named = {"all": range(len(run.faces)), "largest": range(1)}
    chosen = named.get(options.face, [options.face])  # stream() refuses a number past the last face
    for position, face in enumerate(chosen):
        label = f"{Path(source).name}, face {position + 1} of {len(chosen)}"
        try:
            done = _reconstruct(model, run, face, label, options)
        except FaceUnusable as refusal:
            if options.face != "all" or (face == len(run.faces) - 1 and not run.outputs):
                raise
            _clear_progress()
            _say(f"{label} is left out: {refusal}", sys.stderr)
            continue
        run, report = _written(run, done, stem, report["made"], options)
        _clear_progress()
    return report, _summary(run)


def _found(model, source: str) -> PhotoRun:
    """The photo opened and its faces found; nothing made of them yet."""
    from hrn_opt.output.report import PhotoRun
    from hrn_opt.photo import open_photo

    photo = open_photo(source)
    start = time.perf_counter()
    faces = model.find(photo)
    return PhotoRun(source, photo, model.name, model.device, model.precision, faces, time.perf_counter() - start, ())


def _reconstruct(model, run: PhotoRun, face: int, label: str, options: argparse.Namespace) -> Reconstruction:
    from hrn_opt.output.export import want_for

    want, size = want_for(options.formats), options.texture_size
    reconstruction = None
    for event in model.stream(run.photo, face=face, faces=run.faces, want=want, texture_size=size):
        _show_progress(event.fraction, f"{label}: {event.stage.value}")
        reconstruction = event.reconstruction
    assert reconstruction is not None, "the last event of stream() carries the reconstruction"
    return reconstruction


def _written(
    run: PhotoRun, done: Reconstruction, stem: str, made: dict[str, str], options: argparse.Namespace
) -> tuple[PhotoRun, dict]:
    """The run with one face more, and its report. Of the face's files all are there with the report, or none is.

    made: what was made under this stem before, by name, with its SHA-256.
    """
    from hrn_opt.output.export import contents_of, place
    from hrn_opt.output.outputs import REPORT_ENDING, digest_of, sealed
    from hrn_opt.output.report import FaceOutput, as_file, run_report

    face_stem = f"{stem}-face{done.face_index}" if options.face == "all" else stem
    contents = contents_of(done, options.formats, face_stem)
    output = FaceOutput(done, tuple(options.out / name for name in contents))
    run = replace(run, outputs=(*run.outputs, output))
    made = made | {name: digest_of(content) for name, content in contents.items()}
    report = sealed(run_report(run) | {"made": made})
    # The report goes first: a process that is killed in between leaves names without files, not files without a name.
    place({f"{stem}{REPORT_ENDING}": as_file(report), **contents}, options.out)
    return run, report


def _exit_code(error: HrnOptError) -> int:
    return _EXIT_INPUT if isinstance(error, InputError) else _EXIT_MACHINE


def _summary(run: PhotoRun) -> str:
    seconds = run.find_seconds + sum(output.reconstruction.seconds for output in run.outputs)
    files = " ".join(str(path) for output in run.outputs for path in output.files)
    return f"{run.source}: {len(run.outputs)} of {len(run.faces)} faces with {run.model} in {seconds:.2f} s: {files}"


def _say(text: str, stream: TextIO | None) -> bool:
    """A line on the stream, what it cannot show as escapes; whether it could be written.

    Where its reader has gone, the work goes on silently; where it takes no more, as on a full disk, standard error
    says so, once.
    """
    if stream is None:  # closed by the caller's shell
        return True
    encoding = getattr(stream, "encoding", None) or "utf-8"
    try:
        print(_shown(text).encode(encoding, "backslashreplace").decode(encoding), file=stream, flush=True)
        return True
    except OSError as error:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())  # for the lines to come, and for what Python still writes as it ends
        os.close(nowhere)
        if isinstance(error, BrokenPipeError):
            return True
        reason = (error.strerror or str(error)).lower()
        if stream is not sys.stderr:
            _say(f"hrn_opt: Cannot write to standard output ({reason}); send it elsewhere.", sys.stderr)
        return False


def _shown(text: str) -> str:
    """On one line: a file's name may hold a newline, or what clears the screen."""
    return _CONTROLS.sub(lambda control: control[0].encode("unicode_escape").decode(), text)


def _show_progress(fraction: float, label: str) -> None:
    if sys.stderr and sys.stderr.isatty():
        bar = "#" * round(fraction * _BAR_CELLS)
        print(f"\r\x1b[K[{bar:<{_BAR_CELLS}}] {_shown(label)}", end="", file=sys.stderr, flush=True)


def _clear_progress() -> None:
    if sys.stderr and sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
