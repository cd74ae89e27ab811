"""The networks' own time, on a device that works by itself too."""

import time
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from benchmarks import hrn


class Slow(nn.Module):
    def forward(self, seconds):
        time.sleep(seconds)
        return seconds


class Event:
    """Stands in for CUDA's: notes the time when it is recorded, and tells it only to those who waited."""

    def __init__(self, enable_timing):
        assert enable_timing
        self.waited = False

    def record(self, stream):
        assert stream == "stream of cuda:0"
        self.at = time.perf_counter()

    def synchronize(self):
        self.waited = True

    def elapsed_time(self, end):
        assert end.waited
        return 1000 * (end.at - self.at)


@pytest.mark.parametrize("device", ["cpu", "cuda:0"])
def test_the_networks_own_time_is_theirs_alone(monkeypatch, device):
    network = Slow()
    monkeypatch.setattr(hrn, "_networks", lambda model: [network])
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda on: f"stream of {on}")

    def call():
        network(0.02)
        time.sleep(0.03)
        network(0.02)

    floor = hrn._floor("two calls", call, SimpleNamespace(device=torch.device(device)), runs=3)
    assert 0.04 <= floor.networks.lowest_s <= floor.whole.lowest_s - 0.03
    assert floor.ratio > 1
    assert not network._forward_hooks and not network._forward_pre_hooks
