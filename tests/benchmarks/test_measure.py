"""How things are timed."""

import os
import time

from benchmarks.measure import Host, Timing, peak_rss_mb, time_pairs, watched_memory


def test_pairs_take_turns_and_warm_up():
    calls = []
    pair = time_pairs("both", lambda: calls.append("a") or time.sleep(0.02), lambda: calls.append("b"), 4, warm_up=1)
    assert calls == ["a", "b"] * 5
    assert pair.baseline.runs == pair.ours.runs == 4
    assert pair.gain_low <= pair.gain <= pair.gain_high and pair.gain > 2


def test_timing():
    timing = Timing.of("x", [3.0, 1.0, 2.0])
    assert (timing.median_s, timing.lowest_s, timing.p95_s, timing.runs) == (2.0, 1.0, 3.0, 3)


def test_memory_over_time():
    with watched_memory(os.getpid(), every_s=0.005) as samples:
        block = bytearray(60_000_000)
        while len(samples) < 5:
            time.sleep(0.005)
    assert 5 <= len(samples) <= 101
    assert samples[-1][1] - samples[0][1] > -1 and samples[-1][1] >= len(block) / 1e6
    assert peak_rss_mb() >= samples[-1][1] - 0.1  # the kernel's two tables may differ by some pages of 4 KiB


def test_machine_has_a_name_for_files():
    machine = Host.here()
    assert machine.cores >= 1 and machine.slug and machine.slug.replace("-", "").isalnum()
    assert machine.versions["torch"]
