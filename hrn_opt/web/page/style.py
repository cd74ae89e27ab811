"""Looks: Gradio's soft theme with the visitor's own fonts, and what the theme does not say."""

from __future__ import annotations

import gradio as gr

FONT = ["system-ui", "sans-serif"]  # the visitor's own: nothing to download


def theme() -> gr.themes.Base:
    return gr.themes.Soft(primary_hue="teal", neutral_hue="slate", font=FONT, font_mono=["monospace"])


CSS = """
.gradio-container { width: 100%; max-width: 1320px !important; margin: 0 auto !important; }
.intro h1 { margin-bottom: .25rem; }
#account { position: absolute; top: .35rem; right: 0; width: auto; z-index: 1; }
#account .html-container { padding: 0; }
#account form { display: flex; align-items: baseline; gap: .5rem; margin: 0; font-size: .85rem; }
#account form *, .run { color: var(--neutral-500); font: inherit; }
.dark #account form *, .dark .run { color: var(--neutral-400); }
#account span { max-width: 12rem; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
#account button { padding: .35rem 0; border: 0; background: none; box-shadow: none; text-decoration: underline;
  cursor: pointer; }
#account button:hover { color: var(--body-text-color); }
@media (max-width: 600px) { #account span { display: none; } }  /* the title is beside it */
@media (max-width: 380px) { #account { position: static; align-self: flex-end; } }
.progress { min-height: 6.5rem; }
.bar { height: 6px; border-radius: 3px; background: var(--border-color-primary); overflow: hidden; }
.bar > i { display: block; height: 100%; background: var(--color-accent); transition: width .25s; }
.note { margin: .6rem 0; font-size: 1.05rem; color: var(--body-text-color); }
.note.failed { color: var(--error-icon-color); font-weight: 600; }
.advice { margin: .25rem 0; color: var(--body-text-color-subdued); }
.run { margin: .5rem 0 0; font-size: .8rem; user-select: text; }
.stages { display: flex; flex-wrap: wrap; gap: .25rem 1.1rem; margin: 0; padding: 0; list-style: none;
  color: var(--body-text-color-subdued); font-variant-numeric: tabular-nums; }
.stages li::before { content: "○ "; }
.stages li.done { color: var(--body-text-color); }
.stages li.done::before { content: "✓ "; color: var(--color-accent); }
.stages li.now::before { content: "● "; color: var(--color-accent); animation: pulse 1s infinite alternate; }
@keyframes pulse { to { opacity: .25; } }
@media (prefers-reduced-motion: reduce) { .stages li.now::before { animation: none; } .bar > i { transition: none; } }
.costs, .costs tr, .costs th, .costs td { border: none !important; background: none !important; }
.costs { width: 100%; border-collapse: collapse; font-variant-numeric: tabular-nums; }
.costs caption { caption-side: bottom; text-align: left; padding: .5rem; color: var(--body-text-color-subdued); }
.costs th, .costs td { padding: .3rem .5rem; text-align: left; font-weight: normal; }
.costs th { white-space: nowrap; width: 1%; }
.costs td.number { white-space: nowrap; width: 1%; text-align: right; }
.costs i { display: block; height: 12px; min-width: 2px; border-radius: 3px; background: var(--color-accent); }
.costs i.memory { background: var(--neutral-400); height: 6px; margin-top: 3px; }
@media (max-width: 600px) { #results button[role=tab] { padding-inline: .55rem; } }  /* all fit side by side */
.downloads { flex-wrap: wrap; }
.downloads button::before, .downloads a::before { content: "↓" / ""; margin-right: .4rem; }
"""
