"""Tables and pictures from the measured figures: `python -m benchmarks.report` makes them anew from the stored JSON.

What could not be measured has no key in the JSON; its reason stands under "not_measured".
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.face import ROOT

RESULTS = Path(__file__).parent / "results"
README = ROOT / "README.md"
README_START, README_END = "<!-- made by benchmarks/report.py -->\n", "<!-- end -->"
NO_CUDA = "No CUDA device was at hand on this machine: nothing here was measured on one."
INK, ACCENT, PALE = "#334155", "#0d9488", "#cbd5e1"

Measured = dict[str, Any]


def markdown(measured: Measured, pictures: Sequence[str] = ()) -> str:
    """The whole report.

    pictures: names of files beside it.
    """
    machine = measured["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    parts = [
        f"# {machine['processor']}, {machine['cores']} cores, GPU: {machine['gpu']}",
        f"{machine['memory_gb']:.0f} GB, Python {machine['python']}, {versions}; commit {machine['commit']}.",
    ]
    if machine["gpu"] == "none":
        parts.append(NO_CUDA)
    sections = {"ladder": _ladder, "hrn": _hrn, "preprocessing": _preprocessing, "embedded": _embedded}
    sections |= {"litert": _litert, "web": _web, "pipeline": _pipeline}
    for name, section in sections.items():
        if name in measured:
            parts += section(measured[name])
    if reasons := measured.get("not_measured"):
        parts += ["## Not measured", *(f"- {name}: {reason}" for name, reason in reasons.items())]
    parts += [f"![{name.removesuffix('.png')}]({name})" for name in pictures]
    return "\n\n".join(parts) + "\n"


def headline(ladder: Measured) -> str:
    """One line for each way to a texture: seconds, gain, memory, difference."""
    names = {"official": "published model class", "texture-only": "the same, the texture alone"}
    names |= {"engine": "this engine, fp32", "bf16": "this engine, bf16", "fp16": "this engine, fp16"}
    rows = [
        [
            names[rung["name"]],
            _s(rung["photo"]),
            _gain(rung),
            f"{rung['memory_mb']['peak_rss_mb'] / 1000:.2f} GB",
            "" if rung["name"] == "official" else f"{rung['difference']['texture_mean']:.3f}",
        ]
        for rung in ladder["rungs"]
        if rung["name"] in names
    ]
    return _table(["landmarks → 256² texture", "time", "gain (range)", "peak RSS", "mean difference"], rows)


def readme_text(measured: Measured) -> str:
    """What stands in the README between the markers."""
    machine, ladder, embedded, web = (measured[name] for name in ("machine", "ladder", "embedded", "web"))
    gpu = "without a GPU" if machine["gpu"] == "none" else f"with {machine['gpu']}"
    line = embedded["processes"][0]
    rows = [
        *([row["name"], _s(row)] for row in embedded["timings"]),
        [line["name"], f"{line['wall_s']:.1f} s, {line['peak_rss_mb']:.0f} MB"],
        ["page load while a photo computes, p95", f"{web['page']['p95_s'] * 1000:.0f} ms"],
        ["photo sent → first progress", _ms(web["first_progress"])],
    ]
    text = [
        f"{machine['processor']}, {machine['cores']} cores, {gpu}; medians of {ladder['rounds']} interleaved rounds;"
        " differences in grey levels of 255, before clipping:",
        headline(ladder),
        *([_estimate(ladder)] if ladder["unmemoised_s"] else []),
        _table(["embedded model", ""], rows),
    ]
    if "hrn" in measured:
        text.append(_floors(measured["hrn"]))
    return "\n\n".join(text) + "\n"


def write_readme(measured: Measured, path: Path = README) -> None:
    before, _, rest = path.read_text(encoding="utf-8").partition(README_START)
    _, _, after = rest.partition(README_END)
    path.write_text(f"{before}{README_START}\n{readme_text(measured)}\n{README_END}{after}", encoding="utf-8")


def write_report(json_path: Path) -> Path:
    """The Markdown and the pictures beside the JSON."""
    measured = json.loads(json_path.read_text(encoding="utf-8"))
    report = json_path.with_suffix(".md")
    report.write_text(markdown(measured, _pictures(measured, json_path)), encoding="utf-8")
    return report


def _ladder(ladder: Measured) -> list[str]:
    rows = [
        [
            rung["name"],
            rung["what"],
            f"{rung['import_s'] + rung['load_s']:.1f} s",
            f"{rung['first_s']:.2f} s",
            f"{rung['photo']['median_s']:.2f} s",
            _gain(rung),
            " / ".join(f"{value / 1000:.2f}" for value in rung["memory_mb"].values()) + " GB",
            f"{rung['difference']['texture_mean']:.3f} / {rung['difference']['texture_p999']:.2f}",
            f"{rung['difference']['vertices_dm']:.0e}",
        ]
        for rung in ladder["rungs"]
    ]
    head = ["rung", "what changes, on top of the one above", "start", "first photo", "photo", "gain (range)"]
    head += ["peak RSS", "texture, mean / p99.9", "vertices, dm"]
    text = [
        "## The published model class and the steps to this engine: landmarks → 256² texture",
        _table(head, rows),
        "Start: imports and loading. Texture: difference in grey levels of 255, before clipping.",
    ]
    if ladder["stand_ins"]:
        text.append("Stood in for, each in the published model's favour:")
        text.append("\n".join(f"- {stand_in}" for stand_in in ladder["stand_ins"]))
    if ladder["unmemoised_s"]:
        text.append(_estimate(ladder))
    return text


def _estimate(ladder: Measured) -> str:
    minutes, times = ladder["unmemoised_s"] / 60, ladder["unmemoised_s"] / _engine_s(ladder)
    return (
        f"The published code rasterises its UV layout {ladder['uv_calls']} times a photo; here it got the answer."
        f" PyTorch3D took {ladder['uv_call_s']} s for one where that was measured once (two cores, no GPU): a photo"
        f" would take about {minutes:.0f} minutes, {times:.0f} times the engine's time. An estimate, in no gain above."
    )


def _engine_s(ladder: Measured) -> float:
    return next(rung["photo"]["median_s"] for rung in ladder["rungs"] if rung["name"] == "engine")


def _hrn(hrn: Measured) -> list[str]:
    stages = [[row["name"], _s(row), f"{row['p95_s']:.3f} s"] for row in hrn["stages"]]
    batch = hrn["batch"]
    return [
        f"## This engine against its networks' own time ({hrn['precision']}, pack: {hrn['pack']})",
        _floors(hrn),
        _table(["stage of the last row", "median", "p95"], stages),
        f"{batch['name']}: {_s(batch['baseline'])} one by one, {_s(batch['ours'])} as a batch, gain {_gain(batch)}.",
    ]


def _floors(hrn: Measured) -> str:
    rows = [
        [floor["whole"]["name"], _s(floor["whole"]), _s(floor["networks"]), f"{floor['ratio']:.2f}"]
        for floor in hrn["floors"]
    ]
    return _table([f"HRN, {hrn['precision']}", "whole", "its networks alone", "ratio"], rows)


def _preprocessing(pairs: Sequence[Measured]) -> list[str]:
    return ["## Preprocessing alone: equal pixels", _pairs(pairs, "published", "here")]


def _pipeline(pairs: Sequence[Measured]) -> list[str]:
    return ["## The whole published pipeline, photo in", _pairs(pairs, "published", "here")]


def _litert(litert: Measured) -> list[str]:
    return [
        "## The embedded networks against LiteRT, one thread",
        _pairs(litert["pairs"], "LiteRT", "torch, here"),
        "Below 1 LiteRT is faster. It is not what the app runs on: torch is there anyway, for HRN and the geometry.",
    ]


def _pairs(pairs: Iterable[Measured], baseline: str, ours: str) -> str:
    rows = [[pair["name"], _ms(pair["baseline"]), _ms(pair["ours"]), _gain(pair)] for pair in pairs]
    return _table(["", baseline, ours, "gain (range)"], rows)


def _embedded(embedded: Measured) -> list[str]:
    warm = [[row["name"], _s(row), f"{row['p95_s']:.3f} s"] for row in (*embedded["timings"], *embedded["stages"])]
    processes = [
        [row["name"], f"{row['wall_s']:.2f} s", f"{row['peak_rss_mb']:.0f} MB"] for row in embedded["processes"]
    ]
    return [
        f"## The embedded model: {1 / embedded['timings'][0]['median_s']:.1f} photos a second",
        _table(["warm; below, the first row's stages", "median", "p95"], warm),
        _table(["whole process", "wall", "peak RSS"], processes),
    ]


def _web(web: Measured) -> list[str]:
    rows = [[row["name"], _ms(row), f"{row['p95_s'] * 1000:.0f} ms"] for row in (web["page"], web["lag"])]
    rows += [[row["name"], _ms(row), f"{row['p95_s'] * 1000:.0f} ms"] for row in (web["first_progress"], web["photo"])]
    crowds = [
        [
            str(crowd["users"]),
            f"{crowd['photos_per_s']:.2f}",
            f"{crowd['slowest_s']:.2f} s",
            f"{crowd['peak_rss_mb']:.0f} MB",
        ]
        for crowd in web["crowds"]
    ]
    return [
        f"## The web app with the embedded model, over loopback; it serves {web['start_s']:.1f} s after its start",
        _table(["while a photo computes", "median", "p95"], rows),
        _table(["users at once", "photos a second", "the last one waits", "peak RSS of the server"], crowds),
        *_beside_library([crowd for crowd in web["crowds"] if "ratio" in crowd]),  # older figures have none
    ]


def _beside_library(crowds: Sequence[Measured]) -> list[str]:
    rows = [
        [
            str(crowd["users"]),
            f"{crowd['photos_per_s']:.2f}",
            f"{crowd['library_per_s']:.2f}",
            f"{crowd['ratio']:.2f} ({crowd['ratio_low']:.2f}–{crowd['ratio_high']:.2f})",
        ]
        for crowd in crowds
    ]
    library = "library, a single-threaded process a processor"
    return [_table(["users at once", "server, photos a second", library, "ratio (range)"], rows)] if rows else []


def _gain(pair: Measured) -> str:
    return f"{pair['gain']:.1f}× ({pair['gain_low']:.1f}–{pair['gain_high']:.1f})"


def _s(timing: Measured) -> str:
    return f"{timing['median_s']:.3f} s"


def _ms(timing: Measured) -> str:
    return f"{timing['median_s'] * 1000:.1f} ms"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _pictures(measured: Measured, json_path: Path) -> list[str]:
    """Names of the pictures written beside the JSON; none where matplotlib is missing."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        print("No pictures: matplotlib is not installed (the extra dev).", file=sys.stderr)
        return []
    drawings = {"ladder": _draw_ladder, "memory": _draw_memory} if "ladder" in measured else {}
    drawings |= {"stages": _draw_stages} if "embedded" in measured else {}
    names = []
    for name, draw in drawings.items():
        figure = Figure(figsize=(8, 4), dpi=120, layout="constrained")
        axes = figure.add_subplot()
        axes.spines[["top", "right"]].set_visible(False)
        draw(axes, measured)
        names.append(f"{json_path.stem}-{name}.png")
        figure.savefig(json_path.with_name(names[-1]))
    return names


def _draw_ladder(axes, measured: Measured) -> None:
    rungs = measured["ladder"]["rungs"]
    seconds = [rung["photo"]["median_s"] for rung in rungs]
    bars = axes.barh([rung["name"] for rung in rungs], seconds, color=[PALE] + [ACCENT] * (len(rungs) - 1))
    labels = [f"{s:.2f} s   {rung['gain']:.1f}×" for s, rung in zip(seconds, rungs, strict=True)]
    axes.bar_label(bars, labels, padding=4, color=INK)
    axes.invert_yaxis()
    axes.set_xlim(0, max(seconds) * 1.2)
    axes.set_xlabel("seconds from landmarks to texture, warm")
    axes.set_title("From the published model class to this engine", loc="left")


def _draw_memory(axes, measured: Measured) -> None:
    rungs = {rung["name"]: rung for rung in measured["ladder"]["rungs"]}
    for name, colour in (("official", INK), ("engine", ACCENT)):
        if samples := rungs[name]["memory_over_time"]:
            seconds, memory_mb = zip(*samples, strict=True)
            axes.plot(seconds, [value / 1000 for value in memory_mb], color=colour, label=name)
    axes.set_ylim(0)
    axes.set_xlabel("seconds into one photo")
    axes.set_ylabel("resident memory, GB")
    axes.set_title("Memory while a texture is made", loc="left")
    axes.legend(frameon=False)


def _draw_stages(axes, measured: Measured) -> None:
    models = {"embedded": measured["embedded"]["stages"]}
    if "hrn" in measured:
        models["HRN"] = measured["hrn"]["stages"]
    names = list(dict.fromkeys(row["name"] for stages in models.values() for row in stages))
    shades = ["#5eead4", "#99f6e4", "#cbd5e1", "#a5b4fc", "#7dd3fc", "#e2e8f0"]
    centred = {"ha": "center", "va": "center", "color": INK, "fontsize": 9}
    for number, stages in enumerate(models.values()):
        left = 0.0
        whole = sum(row["median_s"] for row in stages)
        for row in stages:
            share = row["median_s"] / whole
            axes.barh(number, share, 0.5, left, color=shades[names.index(row["name"]) % len(shades)])
            if share > 0.07:
                axes.text(left + share / 2, number, f"{row['name']}\n{row['median_s']:.2f} s", **centred)
            left += share
    axes.set_yticks(range(len(models)), list(models))
    axes.set_ylim(-0.6, max(1, len(models) - 1) + 0.6)
    axes.set_xlim(0, 1)
    axes.set_xticks([])
    axes.invert_yaxis()
    axes.set_title("Where the time of one photo goes", loc="left")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report", description="Reports from stored figures.")
    parser.add_argument("json", type=Path, nargs="*", help="default: everything in benchmarks/results")
    parser.add_argument("--readme", action="store_true", help="also put the first one's table into the README")
    args = parser.parse_args(argv)
    paths = args.json or sorted(RESULTS.glob("*.json"))
    for path in paths:
        print(write_report(path))
    if args.readme and paths:
        write_readme(json.loads(paths[0].read_text(encoding="utf-8")))
    return 0


if __name__ == "__main__":
    sys.exit(main())
