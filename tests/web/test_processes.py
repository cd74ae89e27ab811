"""How many model processes the server starts, where nobody says."""

import pytest

from hrn_opt.hrn.pack.state import PackState
from hrn_opt.web import server
from hrn_opt.web.settings import ServingSettings

MB = 1 << 20


@pytest.fixture
def machine(monkeypatch):
    """Sets the machine's processors and free memory; HRN is not there."""

    def have(cpus, free_mb):
        monkeypatch.setattr(server, "usable_cpus", lambda: cpus)
        monkeypatch.setattr(server, "free_memory_bytes", lambda: free_mb * MB)

    monkeypatch.setattr(server, "pack_state", lambda: PackState.MISSING)
    return have


@pytest.mark.parametrize(
    ("cpus", "free_mb", "processes"),
    [(1, 9000, 1), (8, 9000, 8), (2, 850, 1), (2, 1900, 2), (8, 2500, 3), (4, 100, 1)],
)
def test_one_a_processor_as_far_as_they_fit_the_memory(machine, cpus, free_mb, processes):
    machine(cpus, free_mb)
    assert server.processes_of(ServingSettings()) == processes


def test_a_number_that_was_asked_for_is_taken_as_it_is(machine):
    machine(cpus=1, free_mb=100)
    assert server.processes_of(ServingSettings(concurrency=3)) == 3


def test_hrn_has_one(machine, monkeypatch):
    machine(cpus=8, free_mb=9000)
    monkeypatch.setattr(server, "pack_state", lambda: PackState.READY)
    assert server.processes_of(ServingSettings()) == 1
