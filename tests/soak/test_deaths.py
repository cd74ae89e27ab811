"""The server, its model processes and what opens photos are killed in the midst of everything."""

import json

import pytest

from tests.soak.house import SMALL, house, photos_in, post, until
from tests.soak.stages import STAGES, met_in

pytestmark = pytest.mark.slow


def test_a_killed_server_leaves_no_process_and_its_files_go_with_the_next_start(start, photo):
    """Each server clears away what the one before it left."""
    server = start("--concurrency", "1").until_ready()
    for stage in STAGES:
        with met_in(stage, server, photo):
            server.kill()
            if stage not in ("waiting", "finding"):  # where a process is held still, and cannot end yet
                server.until_nobody_lives()
        server.until_nobody_lives()
        assert photos_in(server), "nothing was there to be cleared away"
        server = start("--concurrency", "1").until_ready()
        assert not photos_in(server), stage
    server.signal()
    server.assert_ended_well()


def test_a_server_killed_while_it_starts_leaves_no_process(start):
    killed = start()
    until(lambda: killed.models())
    killed.kill()
    killed.until_nobody_lives()


@pytest.fixture(scope="module")
def lasting(tmp_path_factory):
    with house(tmp_path_factory.mktemp("lasting") / "tmp", "--concurrency", "1") as one:
        yield one.until_ready()


@pytest.mark.parametrize("stage", [stage for stage in STAGES if stage != "waiting"])
def test_the_photo_of_a_killed_model_process_is_given_up_in_a_sentence(lasting, photo, stage):
    with met_in(stage, lasting, photo) as told:
        lasting.family()
        (model,) = lasting.models()
        model.kill()
    name, text = told[-1]
    assert name == "problem" and json.loads(text)["error"] == "ProcessDied", told
    answer = post(lasting.address, photo, **SMALL)
    assert answer.status_code == 200 and answer.content.startswith(b"\x89PNG")
    until(lambda: not photos_in(lasting))
    assert model not in lasting.family() and len(lasting.models()) == len(lasting.openers()) == 1


def test_a_photo_whose_opener_is_killed_is_refused_in_a_sentence(lasting, photo):
    with met_in("finding", lasting, photo) as told:
        lasting.openers()[0].kill()
    name, text = told[-1]
    assert name == "problem" and json.loads(text)["error"] == "PhotoTooCostly", told
    assert post(lasting.address, photo, **SMALL).status_code == 200


def test_an_opener_killed_while_it_had_nothing_to_do_costs_no_photo(lasting, photo):
    lasting.openers()[0].kill()
    assert post(lasting.address, photo, **SMALL).status_code == 200
