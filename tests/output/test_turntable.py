"""The turning face: what its pictures show, and that nobody pays for them unasked."""

import io
import threading
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from hrn_opt import pipeline
from hrn_opt.errors import OptionInvalid, Stopped
from hrn_opt.output import export
from hrn_opt.output.render import BACKGROUND_RGB
from hrn_opt.output.turntable import FRAME_COUNT, turntable, webp_bytes
from hrn_opt.types import UVTexture
from tests.output.test_export import curved_mesh, reconstruction
from tests.output.test_render import card


@pytest.fixture
def made(monkeypatch):
    """How often the pipeline made a turntable; its pictures are small here."""
    calls = []

    def small(mesh, texture, stop):
        calls.append(mesh)
        return turntable(mesh, texture, frame_px=48, stop=stop)

    monkeypatch.setattr(pipeline, "turntable", small)
    return calls


def shown(frame):
    """(H, W) bool: where the face is."""
    return (frame != BACKGROUND_RGB).any(2)


def test_frames_turn_from_left_to_right():
    mesh = curved_mesh()  # its middle is nearest to the viewer, and so moves to where the face looks
    frames = turntable(mesh, stripe(), 60)
    assert len(frames) == FRAME_COUNT and all(frame.shape == (60, 60, 3) for frame in frames)
    assert all((first != second).any() for first, second in pairwise(frames))
    columns = [((frame[..., 1] < 60) & shown(frame)).nonzero()[1].mean() for frame in frames]
    assert all(second > first - 0.5 for first, second in pairwise(columns)) and columns[-1] > columns[0] + 1.5
    assert columns[0] + columns[-1] == pytest.approx(59, abs=1)  # as far to one side as to the other
    widths = [shown(frame).any(0).sum() for frame in frames]
    assert max(widths[0], widths[-1]) <= max(widths) * np.cos(np.pi / 6) + 3 and min(widths) > 20


def stripe():
    """White with a red stripe down the middle."""
    rgb = np.full((64, 64, 3), 255, np.uint8)
    rgb[:, 28:36, 1:] = 0
    return UVTexture(rgb, np.zeros((64, 64), np.uint8))


def test_a_texture_finer_than_the_picture_is_shrunk_not_skipped():
    stripes = np.zeros((960, 960, 3), np.uint8)
    stripes[:, ::2] = 200
    frame = turntable(card(), UVTexture(stripes, np.zeros((960, 960), np.uint8)), 30)[15]
    inside = frame[10:20, 12:18]
    assert np.abs(inside.astype(int) - 100).max() <= 2  # the mean of both stripes; unshrunk they would alias


def test_webp_goes_forth_and_back_for_ever():
    # Frames that look alike would be merged: a rough texture moves by more than that.
    rough = np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    frames = turntable(curved_mesh(), UVTexture(rough, np.zeros((24, 24), np.uint8)), 120)
    animation = Image.open(io.BytesIO(webp_bytes(frames)))
    assert animation.n_frames == 2 * FRAME_COUNT - 2 and animation.size == (120, 120) and animation.info["loop"] == 0
    for number, frame in ((0, frames[0]), (20, frames[20]), (40, frames[18])):
        animation.seek(number)
        assert np.abs(np.asarray(animation.convert("RGB")).astype(int) - frame).mean() < 12  # lossy, colours halved


@pytest.mark.parametrize("want, times", [("texture", 0), ("mesh", 0), ("detail", 0), ("turntable", 1)])
def test_made_only_when_wanted(model, example_photo, made, want, times):
    result = model.reconstruct(example_photo, want=want, texture_size=512)
    assert len(made) == times and (result.turntable is not None) == bool(times) and result.detail is None
    if times:
        assert len(result.turntable) == FRAME_COUNT and shown(result.turntable[0]).mean() > 0.3
        means = [frame[shown(frame)].mean(0) for frame in result.turntable]
        assert all(red > green > blue for red, green, blue in means)  # skin


def test_export(tmp_path, monkeypatch, model, example_photo, made):
    result = model.reconstruct(example_photo, want=export.want_for(["turntable"]), texture_size=512)
    (path,) = export.write(result, tmp_path, "turntable", stem="a")
    with Image.open(path) as turntable:
        assert path.name == "a.turntable.webp" and turntable.n_frames == 58
    with pytest.raises(OptionInvalid, match='want="turntable"'):
        export.write(reconstruction(), tmp_path / "new", ("png", "turntable"))
    assert not (tmp_path / "new").exists()


def test_frames_are_512_px_unless_told():
    assert turntable.__defaults__[0] == 512


def test_a_stop_is_looked_at_before_each_picture(monkeypatch, model, example_photo):
    stop, drawn = threading.Event(), []

    def portrait(*_):
        drawn.append(1)
        if len(drawn) == 3:
            stop.set()
        return np.zeros((4, 4, 3), np.uint8)

    monkeypatch.setattr("hrn_opt.output.turntable.portrait", portrait)
    monkeypatch.setattr("hrn_opt.output.turntable.usable_cpus", lambda: 2)
    with pytest.raises(Stopped, match="the turntable"):
        model.reconstruct(example_photo, want="turntable", texture_size=512, stop=stop)
    assert 3 <= len(drawn) <= 4  # the other thread may have begun one
