"""Ways to meet a server in the midst of a photo, whatever the machine's speed."""

import signal
import threading
from contextlib import contextmanager

import httpx

from hrn_opt.types import Stage
from tests.soak.house import LARGE, events, until

# Of the embedded model: each is met when the one before it has just been told of.
STAGES = ("waiting", "finding", *(stage.value for stage in Stage if stage.value not in ("find", "detail")), "writing")
_TOLD_BEFORE = {"align": "find", "shape": "align", "texture": "shape", "assemble": "texture", "writing": "assemble"}


@contextmanager
def met_in(stage, house, photo):
    """A photo in that stage; yields what will be told of it: the names and texts of the events, as they come.

    While waiting and finding, the process that opens photos is held; it goes on when the block has ended, or died.
    """
    told = []
    reader = threading.Thread(target=_read, args=(house, photo, told), daemon=True)
    held = house.openers() if stage in ("waiting", "finding") else []
    for opener in held:
        opener.send_signal(signal.SIGSTOP)
    if stage == "waiting":
        threading.Thread(target=_read, args=(house, photo, []), daemon=True).start()
        until(lambda: house.jobs == 1)
    reader.start()
    if held:
        until(lambda: house.jobs == (2 if stage == "waiting" else 1))
    else:
        until(lambda: _is_told(told, _TOLD_BEFORE[stage]))
    try:
        yield told
    finally:
        for opener in held:
            if opener.is_running():
                opener.send_signal(signal.SIGCONT)
        reader.join(120)
        assert not reader.is_alive(), "the visitor was left waiting"


def _read(house, photo, told):
    try:
        with events(house.address, photo, **LARGE) as stream:
            for event in stream:
                told.append(event)
    except httpx.HTTPError as error:  # the server has died
        told.append(("cut", str(error)))


def _is_told(told, stage):
    assert not told or told[-1][0] not in ("problem", "done", "cut"), told
    return any(name == "stage" and f'"{stage}"' in text for name, text in told)
