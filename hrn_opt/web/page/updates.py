"""What callbacks send to the page: one named value a widget, so that none can take another's place.

Gradio takes tuples, in the order of an event's outputs. `targets` puts the widgets in the order of the fields.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import gradio as gr

SAME = gr.skip()  # the widget stays as it is
DOWNLOADS = ("get_texture", "get_scene", "get_obj", "get_everything")  # the buttons' fields


class FacesUpdate(NamedTuple):
    """After a photo was given.

    outlined: the photo with the boxes of its faces.
    found: the FacesFound, for the page's memory.
    """

    progress: Any = SAME
    photo: Any = SAME
    outlined: Any = SAME
    face: Any = SAME
    found: Any = SAME


class CancelUpdate(NamedTuple):
    """At once when Cancel is pressed."""

    progress: Any = SAME
    create: Any = SAME
    cancel: Any = SAME


class PressUpdate(NamedTuple):
    """At once when Create is pressed, whatever the queue does."""

    progress: Any = SAME
    create: Any = SAME
    cancel: Any = SAME
    scene: Any = SAME
    shown_face: Any = SAME
    get_texture: Any = SAME
    get_scene: Any = SAME
    get_obj: Any = SAME
    get_everything: Any = SAME


class RunUpdate(NamedTuple):
    """While a run goes on, and when it ends; programs get the four files.

    made: the FacesMade, for the page's memory.
    """

    progress: Any = SAME
    create: Any = SAME
    cancel: Any = SAME
    get_texture: Any = SAME
    get_scene: Any = SAME
    get_obj: Any = SAME
    get_everything: Any = SAME
    made: Any = SAME


class ResultUpdate(NamedTuple):
    """One face of a run in every view, and its downloads."""

    shown_face: Any = SAME
    scene: Any = SAME
    texture: Any = SAME
    compare: Any = SAME
    costs: Any = SAME
    tab_maps: Any = SAME
    maps: Any = SAME
    tab_turntable: Any = SAME
    turntable: Any = SAME
    get_texture: Any = SAME
    get_scene: Any = SAME
    get_obj: Any = SAME
    get_everything: Any = SAME


def targets(update: type[NamedTuple], *owners: Any, **states: gr.State) -> list[Any]:
    """The widgets that the fields are named after, in their order; each is an attribute of an owner, or a state."""
    widgets = dict(states)
    for owner in reversed(owners):
        widgets |= vars(owner)
    return [widgets[name] for name in update._fields]


def buttons(running: bool) -> dict[str, gr.Button]:
    """Create and Cancel: one of the two can be pressed."""
    return {"create": gr.Button(interactive=not running), "cancel": gr.Button(interactive=running)}
