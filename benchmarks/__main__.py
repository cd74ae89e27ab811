"""`python -m benchmarks`: measure everything that can be measured here, keep the figures, make the report."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from tqdm import tqdm

from benchmarks import ladder, litert, pipeline
from benchmarks.embedded import measure_embedded
from benchmarks.hrn import measure_hrn, packs
from benchmarks.measure import Host
from benchmarks.preprocessing import measure_preprocessing
from benchmarks.report import RESULTS, write_report
from benchmarks.web import measure_web
from hrn_opt.hrn.pack.prepared import open_prepared

SECTIONS = ("embedded", "litert", "web", "hrn", "preprocessing", "ladder", "pipeline")
QUICK = ("embedded", "web", "ladder")
QUICK_RUNGS = ("engine",)

Tell = Callable[[str, float], None]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="./start.sh bench", description="Measure what this machine makes of it.")
    parser.add_argument("--quick", action="store_true", help="under 3 minutes: fewer runs, two rungs, nothing kept")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, metavar="SECTION", help=" ".join(SECTIONS))
    parser.add_argument("--runs", type=int, default=15, help="counted runs of each timing (default 15)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of the ladder (default 5)")
    parser.add_argument(
        "--pack", type=Path, metavar="DIR", help="HRN's published pack; else a synthetic one, full size"
    )
    parser.add_argument("--precision", default="fp32", help="HRN's against its floor: fp32, bf16 or fp16")
    parser.add_argument("--device", default="auto", help="HRN's: auto, cpu, cuda")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="where figures and report go (default benchmarks/results)"
    )
    args = parser.parse_args(argv)
    if args.runs < 3 or args.rounds < 1:
        parser.error("--runs must be at least 3, --rounds at least 1")
    if args.quick:
        args.runs, args.rounds = 5, 1
    measured = _measure(args, tuple(args.only or (QUICK if args.quick else SECTIONS)))
    with tempfile.TemporaryDirectory() as scratch:
        keep = args.out or (Path(scratch) if args.quick else RESULTS)
        keep.mkdir(parents=True, exist_ok=True)
        path = keep / f"{Host.here().slug}.json"
        path.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
        report = write_report(path)
        print(report.read_text(encoding="utf-8"))
        if not args.quick or args.out:
            print(f"Kept in {path} and {report.name}.")
    return 0


def _measure(args: argparse.Namespace, sections: tuple[str, ...]) -> dict:
    """Figures by section, and why some are missing."""
    measured: dict = {"machine": asdict(Host.here())}
    reasons = {name: why for name, why in _reasons(args.pack).items() if name in sections and why}
    todo = [name for name in sections if name not in reasons]
    with (
        tempfile.TemporaryDirectory() as folder,
        tqdm(total=len(todo), bar_format="{bar:30} {percentage:3.0f}% {elapsed}  {desc}", leave=False) as bar,
    ):
        published = prepared = None
        for number, name in enumerate(todo):
            if name in ("hrn", "preprocessing", "ladder", "pipeline") and prepared is None:
                bar.set_description_str("making HRN's pack ready")
                published, prepared = packs(args.pack, Path(folder))
            tell = _teller(bar, name, number)
            tell("begins", 0)
            measured[name] = _section(name, args, published, prepared, tell)
        bar.update(len(todo) - bar.n)
    return {**measured, **({"not_measured": reasons} if reasons else {})}


def _section(name: str, args: argparse.Namespace, published: Path | None, prepared: Path | None, tell: Tell):
    if name == "embedded":
        return asdict(measure_embedded(args.runs))
    if name == "litert":
        return asdict(litert.measure_litert(10 * args.runs))
    if name == "web":
        return asdict(measure_web(args.runs, tell, rounds=args.rounds))
    if name == "hrn":
        return asdict(measure_hrn(prepared, args.precision, args.device, args.runs, args.pack is None))
    if name == "preprocessing":
        return [asdict(pair) for pair in measure_preprocessing(open_prepared(prepared), args.runs)]
    if name == "pipeline":
        return [asdict(pair) for pair in pipeline.measure_pipeline(published, prepared, args.runs)]
    only = QUICK_RUNGS if args.quick else ()
    return asdict(ladder.measure_ladder(published, prepared, args.rounds, tell, args.device, only))


def _reasons(pack: Path | None) -> dict[str, str]:
    """Why a section cannot be measured here; empty where it can."""
    no_official = ladder.why_not()
    return {
        "litert": litert.why_not(),
        "preprocessing": no_official,
        "ladder": no_official,
        "pipeline": pipeline.why_not(pack),
    }


def _teller(bar: tqdm, section: str, number: int) -> Tell:
    def tell(what: str, fraction: float) -> None:
        bar.set_description_str(f"{section}: {what}", refresh=False)
        bar.update(number + fraction - bar.n)
        bar.refresh()

    return tell


if __name__ == "__main__":
    sys.exit(main())
