"""The page's widgets and what connects them to the callbacks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from hrn_opt.options import DEFAULT_TEXTURE_SIZE, PRECISION_NAMES
from hrn_opt.serving.models import ModelState
from hrn_opt.web.page.account import account
from hrn_opt.web.page.browser import NAME_PICTURES, OFFER_EVERY_PHOTO, RESULTS_INTO_SIGHT
from hrn_opt.web.page.callbacks import FIRST_FACE, Callbacks
from hrn_opt.web.page.progress import Ticker, idle
from hrn_opt.web.page.updates import (
    DOWNLOADS,
    CancelUpdate,
    FacesUpdate,
    PressUpdate,
    ResultUpdate,
    RunUpdate,
    buttons,
    targets,
)
from hrn_opt.web.words import WORDS, i18n, language_of, say

EXAMPLE_PHOTO = Path(__file__).with_name("astronaut.jpg")
TEXTURE_SIZES = (512, 1024, 2048, 4096)
PHOTO_HEIGHT_PX = 300
COMPARE_HEIGHT_PX = 540
RESULT_HEIGHT = "58vh"  # tabs, view and downloads together fill the window
AT_ONCE: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden", "queue": False}
WORDS_IN_BROWSER = i18n()


@dataclass(frozen=True)
class Inputs:
    photo: gr.Image
    outlined: gr.Image
    face: gr.Radio
    create: gr.Button
    cancel: gr.Button
    progress: gr.HTML
    model: gr.Radio
    model_state: gr.Markdown
    texture_size: gr.Radio
    want: gr.Radio
    precision: gr.Radio

    @property
    def choices(self) -> list[gr.Radio]:
        """What comes back with the visitor."""
        return [self.model, self.texture_size, self.want, self.precision]


@dataclass(frozen=True)
class Outputs:
    shown_face: gr.Radio
    surface: gr.Radio
    scene: gr.Model3D
    texture: gr.Image
    compare: gr.ImageSlider
    costs: gr.HTML
    tab_maps: gr.Tab
    maps: gr.Gallery
    tab_turntable: gr.Tab
    turntable: gr.Image
    get_texture: gr.DownloadButton
    get_scene: gr.DownloadButton
    get_obj: gr.DownloadButton
    get_everything: gr.DownloadButton


def build_page(callbacks: Callbacks) -> gr.Blocks:
    """The page: what is asked for on the left, what comes back on the right."""
    page = gr.Blocks(
        title=WORDS["title"][0], analytics_enabled=False, delete_cache=(600, round(callbacks.settings.kept_s))
    )
    with page:
        signed_in = gr.HTML(visible=False, elem_id="account")
        gr.Markdown("# " + _word("title"), elem_classes="intro")
        gr.Markdown(_word("intro"), elem_classes="intro")
        with gr.Row():
            with gr.Column(scale=2, min_width=300):
                inputs = _inputs()
            with gr.Column(scale=3, min_width=300, elem_id="results"):
                outputs = _outputs()
        _connect(callbacks, inputs, outputs)
        _remember(page, callbacks, inputs)
        page.load(account, None, signed_in, **AT_ONCE)
        page.load(None, js=NAME_PICTURES)
        page.load(None, js=OFFER_EVERY_PHOTO)
        page.unload(callbacks.leave)
    return page


def _word(key: str) -> Any:
    return WORDS_IN_BROWSER(key)


def _inputs() -> Inputs:
    with gr.Row():  # side by side, on a phone too, so that the button and its note stay in sight
        photo = gr.Image(
            sources=["upload", "webcam", "clipboard"],
            type="filepath",
            label=_word("photo"),
            height=PHOTO_HEIGHT_PX,
            min_width=150,
            elem_id="photo",
        )
        outlined = gr.Image(
            label=_word("faces_found"),
            visible=False,
            interactive=False,
            format="jpeg",
            buttons=[],
            height=PHOTO_HEIGHT_PX,
            min_width=150,
            elem_id="outlined",
        )
    # Gradio would decode the upload itself, before its size is known, and say little about what is no picture.
    photo.preprocess = lambda upload: upload.path if upload else None  # type: ignore[method-assign, assignment]
    face = gr.Radio([FIRST_FACE], value=FIRST_FACE, label=_word("which_face"), visible=False, elem_id="face")
    # Programs may name one before faces were looked for; `create` checks it.
    face.preprocess = lambda choice: choice  # type: ignore[method-assign, assignment]
    with gr.Row():
        create = gr.Button(_word("create"), variant="primary", scale=2, min_width=100, elem_id="create")
        cancel = gr.Button(_word("cancel"), interactive=False, scale=1, min_width=80, elem_id="cancel")
    progress = gr.HTML(idle("en"), elem_id="progress")
    with gr.Accordion(_word("choices"), open=False, elem_id="choices"):
        choices = _choices()
    gr.Examples([str(EXAMPLE_PHOTO)], photo, label=_word("example"))
    return Inputs(photo, outlined, face, create, cancel, progress, **choices)


def _choices() -> dict[str, Any]:
    def radio(name: str, values: tuple[str, ...], value: str) -> gr.Radio:
        return gr.Radio([(_word(f"{name}_{one}"), one) for one in values], value=value, label=_word(name), elem_id=name)

    precisions = [(_word("precision_auto"), "auto"), *((name, name) for name in PRECISION_NAMES)]
    return {
        "model": radio("model", ("auto", "builtin", "hrn"), "auto"),
        "model_state": gr.Markdown(visible=False, elem_id="model-state"),
        "texture_size": gr.Radio(
            TEXTURE_SIZES, value=DEFAULT_TEXTURE_SIZE, label=_word("texture_size"), elem_id="texture-size"
        ),
        "want": radio("want", ("texture", "mesh", "turntable"), "mesh"),
        "precision": gr.Radio(precisions, value="auto", label=_word("precision"), elem_id="precision"),
    }


def _outputs() -> Outputs:
    made: dict[str, Any] = {
        "shown_face": gr.Radio(
            [FIRST_FACE], value=FIRST_FACE, label=_word("shown_face"), visible=False, elem_id="shown-face"
        )
    }
    made["shown_face"].preprocess = lambda choice: choice or FIRST_FACE
    with gr.Tabs():
        with gr.Tab(_word("tab_scene"), id="scene"):
            made["surface"] = gr.Radio(
                [(_word("textured"), "textured"), (_word("clay"), "clay")],
                value="textured",
                label=_word("surface"),
                show_label=False,
                container=False,
                elem_id="surface",
            )
            made["scene"] = gr.Model3D(
                label=_word("tab_scene"), camera_position=(None, None, None), height=RESULT_HEIGHT, elem_id="scene"
            )
        with gr.Tab(_word("tab_texture"), id="texture"):
            made["texture"] = _picture("tab_texture", "texture")
        with gr.Tab(_word("tab_compare"), id="compare"):
            made["compare"] = gr.ImageSlider(
                label=_word("compare"),
                type="filepath",
                interactive=False,
                max_height=COMPARE_HEIGHT_PX,  # with a height it would cut the pictures off
                buttons=["fullscreen"],
                elem_id="compare",
            )
        with gr.Tab(_word("tab_maps"), id="maps", visible=False) as made["tab_maps"]:
            made["maps"] = gr.Gallery(label=_word("maps"), columns=2, height=RESULT_HEIGHT, elem_id="maps")
        with gr.Tab(_word("tab_turntable"), id="turntable", visible=False) as made["tab_turntable"]:
            made["turntable"] = _picture("tab_turntable", "turntable")
        with gr.Tab(_word("tab_cost"), id="cost"):
            made["costs"] = gr.HTML(elem_id="costs")
    with gr.Row(elem_classes="downloads"):
        for name in ("get_texture", "get_scene", "get_obj", "get_everything"):
            elem_id = name.replace("_", "-")
            made[name] = gr.DownloadButton(_word(name), interactive=False, min_width=120, elem_id=elem_id)
    return Outputs(**made)


def _picture(label: str, elem_id: str) -> gr.Image:
    return gr.Image(
        label=_word(label),
        type="filepath",
        format="png",
        height=RESULT_HEIGHT,
        interactive=False,
        buttons=["fullscreen"],
        elem_id=elem_id,
    )


def _connect(callbacks: Callbacks, given: Inputs, shown: Outputs) -> None:
    found, made = gr.State(), gr.State()
    _connect_faces(callbacks, given, shown, found)
    given.create.click(  # Cancel works while the photo waits, too
        _begun,
        None,
        targets(PressUpdate, given, shown),
        **AT_ONCE,
    )
    creating = given.create.click(
        callbacks.create,
        [given.photo, given.texture_size, given.want, given.face, given.model, given.precision],
        targets(RunUpdate, given, shown, made=made),
        api_name="create",
        concurrency_limit=None,  # the worker does the queueing, and tells everybody's place
        show_progress="hidden",
    )
    # Not by `create` itself: a generator's last values are sent twice, and the second time makes the viewer of
    # gradio 6.31 drop the code it has just begun to load, so that the first face would never show.
    showing: dict[str, Any] = {
        "fn": callbacks.show,
        "inputs": [made, shown.shown_face, shown.surface],
        "outputs": targets(ResultUpdate, shown),
        **AT_ONCE,
    }
    creating.success(**showing).then(None, js=RESULTS_INTO_SIGHT)
    shown.shown_face.input(**showing)
    shown.surface.input(**showing)
    cancelling: dict[str, Any] = {"fn": _cancelled, "outputs": targets(CancelUpdate, given), **AT_ONCE}
    # A last line of progress may be under way still: said again, "Stopped" is what stays.
    given.cancel.click(**cancelling, cancels=[creating]).then(**cancelling)


def _begun(request: gr.Request) -> PressUpdate:
    """At once, whatever the queue does; an empty viewer, because it keeps its face until the next one is there."""
    progress = Ticker(language_of(request.headers)).working(say(language_of(request.headers), "working"))
    nothing_to_get = dict.fromkeys(DOWNLOADS, gr.DownloadButton(interactive=False))
    return PressUpdate(progress, **buttons(running=True), scene=None, shown_face=FIRST_FACE, **nothing_to_get)


def _cancelled(request: gr.Request) -> CancelUpdate:
    return CancelUpdate(idle(language_of(request.headers), "stopped"), **buttons(running=False))


def _emptied(request: gr.Request) -> str:
    return idle(language_of(request.headers))


def _connect_faces(callbacks: Callbacks, given: Inputs, shown: Outputs, found: gr.State) -> None:
    looking: dict[str, Any] = {
        "fn": callbacks.find,
        "inputs": [given.photo, given.model, given.precision],
        "outputs": targets(FacesUpdate, given, found=found),
        "concurrency_limit": None,
        "show_progress": "hidden",
        "api_visibility": "private",
    }
    given.photo.change(**looking, trigger_mode="always_last")
    given.photo.clear(_emptied, None, given.progress, **AT_ONCE)
    given.outlined.select(callbacks.pick, found, given.face, **AT_ONCE)
    given.face.change(callbacks.outline, [found, given.face], given.outlined, **AT_ONCE)


def _remember(page: gr.Blocks, callbacks: Callbacks, given: Inputs) -> None:
    """The choices come back with the visitor: they lie in the browser. What the server writes speaks his language."""
    kept = gr.BrowserState(None, storage_key="hrn_opt.choices", secret="hrn_opt")

    def read(values: list[Any] | None, request: gr.Request) -> tuple[Any, ...]:
        states = {state.name: state for state in callbacks.models.states()}
        note = _state_note(states["hrn"], language_of(request.headers))
        widgets = [gr.skip()] * len(given.choices)
        if values and len(values) == len(given.choices):
            widgets = [
                value if value in [own for _, own in widget.choices] else gr.skip()
                for value, widget in zip(values, given.choices, strict=True)
            ]
        return *widgets, gr.Markdown(note, visible=bool(note)), idle(language_of(request.headers))

    page.load(read, kept, [*given.choices, given.model_state, given.progress], **AT_ONCE)
    gr.on([widget.input for widget in given.choices], lambda *values: list(values), given.choices, kept, **AT_ONCE)


def _state_note(hrn: ModelState, language: str) -> str:
    """What to do about HRN where it is not ready."""
    return "" if hrn.ready else say(language, f"hrn_{hrn.key.replace(' ', '_')}")
