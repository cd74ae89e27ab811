"""Photos opened in a process of their own: the same pixels, the same errors, and an end to what one may cost."""

import io
import os
import signal
import threading

import numpy as np
import psutil
import pytest
from PIL import Image

from hrn_opt.errors import HrnOptError, PhotoMissing, PhotoTooCostly, PhotoTooLarge, PhotoUnreadable, Stopped
from hrn_opt.photo import PhotoLimits, open_photo
from hrn_opt.serving.opener import PhotoOpener
from hrn_opt.serving.setup import OpenerLimits

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def opener():
    opener = PhotoOpener(OpenerLimits(PhotoLimits(max_pixels=80_000_000)))
    yield opener
    opener.close()


def process_of(opener):
    return psutil.Process(opener._process.pid)


def test_the_photo_is_the_one_that_the_library_opens(opener, example_photo):
    photo, here = opener.open(example_photo), open_photo(example_photo)
    assert np.array_equal(photo.rgb, here.rgb) and photo.name == here.name
    assert photo.rgb.flags.writeable and photo.rgb.flags.c_contiguous


@pytest.mark.parametrize(
    ("content", "error"),
    [(b"", HrnOptError), (b"no picture", PhotoUnreadable), (b"\xff\xd8\xff\xe0 cut short", PhotoUnreadable)],
)
def test_errors_are_those_of_the_library(opener, tmp_path, content, error):
    path = tmp_path / "bad.jpg"
    path.write_bytes(content)
    with pytest.raises(error) as there:
        opener.open(path)
    with pytest.raises(error) as here:
        open_photo(path)
    assert (str(there.value), there.value.values) == (str(here.value), here.value.values)
    assert type(there.value) is type(here.value)


def test_no_error_names_a_path(opener, tmp_path):
    with pytest.raises(PhotoMissing) as caught:
        opener.open(tmp_path / "gone.jpg")
    assert str(tmp_path) not in str(caught.value)


def test_what_is_over_the_limits_is_refused(opener, tmp_path):
    path = tmp_path / "large.png"
    Image.new("1", (20_000, 20_000)).save(path)
    with pytest.raises(PhotoTooLarge):
        opener.open(path)


def test_the_process_holds_no_model(opener, example_photo):
    opener.open(example_photo)
    names = {os.path.basename(file.path) for file in process_of(opener).memory_maps()}
    assert not any("torch" in name for name in names)


@pytest.mark.skipif(os.uname().sysname != "Linux", reason="this system does not bound a process's memory")
def test_too_much_memory_is_a_sentence(tmp_path):
    path = tmp_path / "wide.png"
    Image.new("I;16", (9_000, 8_800)).save(path)
    opener = PhotoOpener(OpenerLimits(PhotoLimits(max_pixels=80_000_000), address_space_bytes=500 << 20))
    try:
        with pytest.raises(PhotoTooCostly, match="memory") as caught:
            opener.open(path)
        assert caught.value.values["reason"] == "memory"
    finally:
        opener.close()


def test_too_much_time_is_a_sentence_and_the_next_photo_opens(example_photo, tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (6000, 8000, 3), np.uint8)
    slow = tmp_path / "slow.png"
    Image.fromarray(noise).save(slow, compress_level=1)
    opener = PhotoOpener(OpenerLimits(PhotoLimits(), seconds=0.06))
    try:
        first = process_of(opener)
        with pytest.raises(PhotoTooCostly) as caught:
            opener.open(slow)
        assert caught.value.values["reason"] == "time" and not first.is_running()
        opener._limits = OpenerLimits(PhotoLimits())
        assert opener.open(example_photo).size_hw == (512, 512)
    finally:
        opener.close()


def test_a_process_that_is_killed_is_a_sentence_and_replaced(opener, example_photo):
    opener.open(example_photo)
    process_of(opener).kill()
    with pytest.raises(PhotoTooCostly) as caught:
        opener.open(example_photo)
    assert caught.value.values["reason"] == "died"
    assert opener.open(example_photo).size_hw == (512, 512)


def test_a_stop_reaches_it(opener, example_photo):
    stop = threading.Event()
    process = process_of(opener)
    process.send_signal(signal.SIGSTOP)  # so that it does not answer
    threading.Timer(0.2, stop.set).start()
    with pytest.raises(Stopped):
        opener.open(example_photo, stop)
    assert not process.is_running()


def test_signals_to_the_group_leave_it(opener, example_photo):
    opener.open(example_photo)
    for number in (signal.SIGINT, signal.SIGTERM):
        process_of(opener).send_signal(number)
    assert opener.open(example_photo).size_hw == (512, 512)


def test_what_it_answers_is_no_pickle(opener, example_photo, monkeypatch):
    """A file that takes the process over must not gain the one that reads its answer."""
    monkeypatch.setattr(opener._connection.__class__, "recv", lambda self: pytest.fail("it was unpickled"))
    opener.open(example_photo)


def test_it_ends_when_it_is_closed(example_photo):
    opener = PhotoOpener(OpenerLimits(PhotoLimits()))
    opener.open(example_photo)
    process = process_of(opener)
    opener.close()
    assert not process.is_running()


def test_more_scans_than_any_encoder_writes_are_refused_at_once(opener, tmp_path):
    file = io.BytesIO()
    Image.effect_noise((64, 64), 50).convert("RGB").save(file, "JPEG", progressive=True)
    content = file.getvalue()
    start = content.rindex(b"\xff\xda")
    scan = content[start:-2]
    bomb = tmp_path / "scans.jpg"
    bomb.write_bytes(content[:-2] + scan * 5000 + b"\xff\xd9")
    with pytest.raises(PhotoTooLarge):
        opener.open(bomb)
