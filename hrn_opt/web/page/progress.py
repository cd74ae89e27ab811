"""What the page says while it works, and what the work has cost: small pieces of HTML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

from hrn_opt.serving.jobs import StageCost, StageDone
from hrn_opt.types import Stage
from hrn_opt.web.words import STAGE_KEYS, say

EMBEDDED_STAGES = (Stage.FIND, Stage.ALIGN, Stage.SHAPE, Stage.TEXTURE, Stage.ASSEMBLE)
GIGABYTE = 1e9


@dataclass
class Ticker:
    """The stages of the run that is going on, ticked as they end.

    run_id: shown when it has ended, so that a visitor can name it to the operator, whose log has it.
    """

    language: str
    run_id: str = ""
    costs: list[StageCost] = field(default_factory=list)
    fraction: float = 0.0
    number: int = 1

    def add(self, event: StageDone) -> None:
        if event.number != self.number:  # another face: its stages are ticked afresh
            self.costs, self.number = [], event.number
        self.costs.append(event.cost)
        self.fraction = event.fraction

    def working(self, note: str) -> str:
        return _progress(note, self.fraction, self._stages(running=True))

    def ended(self, note: str, failed: bool = False, advice: Sequence[str] = ()) -> str:
        run = say(self.language, "run", run_id=self.run_id) if self.run_id else ""
        return _progress(note, self.fraction, self._stages(running=False), failed, advice, run)

    def _stages(self, running: bool) -> str:
        done = {cost.stage: cost for cost in self.costs}
        stages = [stage for stage in Stage if stage in EMBEDDED_STAGES or stage in done]
        items, now = [], running
        for stage in stages:
            name = say(self.language, STAGE_KEYS[stage])
            if stage in done:
                seconds = say(self.language, "cost_seconds", seconds=f"{done[stage].seconds:.2f}")
                items.append(f'<li class="done">{name} {seconds}</li>')
            elif running:
                items.append(f"<li{' class=now' if now else ''}>{name}</li>")
                now = False
        return "".join(items)


def idle(language: str, key: str = "idle", **values: object) -> str:
    return _progress(say(language, key, **values), 0, "")


def refused(note: str) -> str:
    """Nothing has begun, and this is why."""
    return _progress(note, 0, "", failed=True)


def costs_html(language: str, costs: Sequence[StageCost]) -> str:
    """A bar of seconds a stage, and below it a thin one of the memory held after it."""
    longest = max((cost.seconds for cost in costs), default=0) or 1
    largest = max((cost.resident_bytes for cost in costs), default=0) or 1
    rows = []
    for cost in costs:
        bars = (
            f'<i style="width:{100 * cost.seconds / longest:.0f}%"></i>'
            f'<i class="memory" style="width:{100 * cost.resident_bytes / largest:.0f}%"></i>'
        )
        seconds = say(language, "cost_seconds", seconds=f"{cost.seconds:.2f}")
        name = say(language, STAGE_KEYS[cost.stage])
        rows.append(
            f'<tr><th scope="row">{name}</th><td>{bars}</td>'
            f'<td class="number">{seconds}<br><small>{cost.resident_bytes / GIGABYTE:.2f} GB</small></td></tr>'
        )
    caption = say(language, "cost_caption") if rows else ""
    return f'<table class="costs"><caption>{caption}</caption>{"".join(rows)}</table>'


def _progress(
    note: str, fraction: float, stages: str, failed: bool = False, advice: Sequence[str] = (), run: str = ""
) -> str:
    named = f'<p class="run">{escape(run)}</p>' if run else ""
    hints = "".join(f'<p class="advice">{escape(hint)}</p>' for hint in advice)
    percent = round(100 * fraction)
    return (
        f'<div class="progress"><div class="bar" role="progressbar" aria-valuemin="0" aria-valuemax="100"'
        f' aria-valuenow="{percent}" aria-label="{escape(note)}"><i style="width:{percent}%"></i></div>'
        f'<p class="note{" failed" if failed else ""}" role="status">{escape(note)}</p>{hints}'
        f'<ul class="stages">{stages}</ul>{named}</div>'
    )
