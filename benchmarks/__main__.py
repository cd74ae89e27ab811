"""`python -m benchmarks`: measure, print, and keep the figures as JSON."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from benchmarks.embedded import EmbeddedResult, measure_embedded
from benchmarks.hrn import HrnResult, measure_hrn
from benchmarks.measure import Machine


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure what this machine makes of it.")
    parser.add_argument("--runs", type=int, default=30, help="counted runs of each timing (default 30)")
    parser.add_argument("--quick", action="store_true", help="7 runs of each")
    parser.add_argument("--model", choices=("builtin", "hrn"), default="builtin", help="default: builtin")
    parser.add_argument("--pack", type=Path, metavar="DIR", help="HRN's pack; without it a synthetic one of full size")
    parser.add_argument("--precision", default="auto", help="HRN's: auto, fp32, bf16 or fp16")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to FILE")
    args = parser.parse_args(argv)
    if args.runs < 3:
        parser.error("--runs must be at least 3")
    machine = Machine.here()
    print(f"{machine.processor}, {machine.cores} cores, GPU: {machine.gpu}, torch {machine.torch}", flush=True)
    runs = 7 if args.quick else args.runs
    if args.model == "hrn":
        measured = measure_hrn(args.pack, args.precision, runs)
        _print_hrn(measured)
    else:
        measured = measure_embedded(runs)
        _print_table(measured)
    if args.json:
        args.json.write_text(json.dumps({"machine": asdict(machine), args.model: asdict(measured)}, indent=1) + "\n")
    return 0


def _print_table(measured: EmbeddedResult) -> None:
    for title, rows in (("warm", measured.timings), ("stages of the 512 px photo, warm", measured.stages)):
        print(f"\n{title:<58}{'median':>9}{'p95':>9}{'lowest':>9}  runs")
        for row in rows:
            print(f"  {row.name:<56}{row.median_s:>8.3f}s{row.p95_s:>8.3f}s{row.lowest_s:>8.3f}s{row.runs:>6}")
    print(f"\n{'whole process, cold':<58}{'wall':>9}{'peak RSS':>11}")
    for process in measured.processes:
        print(f"  {process.name:<56}{process.wall_s:>8.2f}s{process.peak_rss_mb:>8.0f} MB")


def _print_hrn(measured: HrnResult) -> None:
    print(f"\npack: {measured.pack}, precision {measured.precision}, loaded in {measured.load_s:.2f}s")
    print(f"\n{'warm':<62}{'median':>9}{'networks':>10}{'ratio':>8}")
    for floor in measured.floors:
        print(
            f"  {floor.whole.name:<60}{floor.whole.median_s:>8.3f}s{floor.networks.median_s:>9.3f}s{floor.ratio:>8.3f}"
        )
    for row in measured.stages:
        print(f"    {row.name:<58}{row.median_s:>8.3f}s")


if __name__ == "__main__":
    sys.exit(main())
