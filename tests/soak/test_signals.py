"""SIGTERM and SIGINT at every moment of a server's life."""

import json
import os
import signal
import threading
import time

import httpx
import pytest

from tests.soak.house import LARGE, SMALL, events, post, until
from tests.soak.stages import STAGES, met_in

pytestmark = pytest.mark.slow
BEFORE_IT_SERVES = 143


@pytest.mark.parametrize("stage", STAGES)
def test_the_photo_at_work_is_finished_and_who_waits_is_told(start, photo, stage):
    house = start("--concurrency", "1", "--drain-s", "100").until_ready()
    with met_in(stage, house, photo) as told:
        house.signal()
        if stage in ("waiting", "finding"):
            until(lambda: "is being stopped" in str(house.asks("/readyz")))
    name, text = told[-1]
    if stage == "waiting":
        assert name == "problem" and json.loads(text)["error"] == "ShuttingDown", told
    else:
        assert name == "done", told
    house.assert_ended_well()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("to_all", [False, True])
def test_while_the_model_loads(start, number, to_all):
    """A terminal's Ctrl-C goes to the whole group."""
    house = start()
    until(lambda: house.jobs is not None and house.models())
    if to_all:
        house.family()
        os.killpg(house.pid, number)
    else:
        house.signal(number)
    house.assert_ended_well()
    assert "KeyboardInterrupt" not in house.log


@pytest.mark.parametrize("after_s", [0.05, 0.2, 0.5, 1.0, 1.5, 2.0, 3.0])
def test_while_it_starts(start, after_s):
    """Whatever it does at that moment."""
    house = start()
    time.sleep(after_s)
    house.signal()
    house.assert_ended_well(
        0, BEFORE_IT_SERVES, -signal.SIGTERM if after_s < 1.1 else 0
    )  # before its first line, on a busy machine


def test_twenty_wait_and_all_are_told(start, photo):
    house = start("--concurrency", "1", "--drain-s", "100").until_ready()
    answers = []
    (opener,) = house.openers()
    opener.send_signal(signal.SIGSTOP)
    threads = [
        threading.Thread(target=lambda: answers.append(post(house.address, photo, **SMALL).status_code), daemon=True)
        for _ in range(21)
    ]
    for thread in threads:
        thread.start()
    until(lambda: house.jobs == 21)
    house.signal()
    until(lambda: len(answers) == 20)
    opener.send_signal(signal.SIGCONT)
    for thread in threads:
        thread.join(120)
    assert sorted(answers) == [200] + [503] * 20
    house.assert_ended_well()


def test_open_streams_do_not_hold_it_up(start):
    """Tabs' heartbeats, and a client that waits for events of a session that has none."""
    house = start().until_ready()
    with httpx.Client(timeout=60) as client:
        for number in range(5):
            stream = client.send(
                client.build_request("GET", f"{house.address}/gradio_api/heartbeat/soak{number}"), stream=True
            )
            assert next(stream.iter_lines()) == "data: ALIVE"
        house.signal()
        house.assert_ended_well()


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("stage", ["finding", "texture", "writing"])
def test_a_second_signal_ends_at_once(start, photo, second, stage):
    house = start("--concurrency", "1", "--drain-s", "1000", "--deadline-s", "1000").until_ready()
    with met_in(stage, house, photo):
        house.signal()
        if stage == "finding":  # the photo is held: the first signal alone would let it go on
            until(lambda: "is being stopped" in str(house.asks("/readyz")))
        else:
            time.sleep(0.05)
        house.signal(second)
        assert house.exit_code() == 0
    house.assert_ended_well()


def test_a_photo_that_does_not_end_is_cut_off(start, photo):
    house = start("--concurrency", "1", "--drain-s", "1").until_ready()
    (opener,) = house.openers()
    opener.send_signal(signal.SIGSTOP)
    with events(house.address, photo, **LARGE) as stream:
        until(lambda: house.jobs == 1)
        house.signal()
        assert [json.loads(text).get("error") for name, text in stream if name == "problem"] == ["ShuttingDown"]
    house.assert_ended_well()
