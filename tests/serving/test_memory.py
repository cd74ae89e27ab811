"""The memory log writes every so many photos, and nothing where nobody asked."""

import mmap

from hrn_opt.machine import resident_bytes
from hrn_opt.serving.memory import MemoryLog


def test_every_third_photo_is_told():
    lines = []
    log = MemoryLog(3, lines.append)
    for _ in range(7):
        log.photo_done()
    assert [line.split(":")[0] for line in lines] == ["Memory after 3 photos", "Memory after 6 photos"]
    assert all("resident" in line for line in lines)


def test_never_unless_asked():
    lines = []
    log = MemoryLog(0, lines.append)
    for _ in range(5):
        log.photo_done()
    assert lines == []


def test_resident_memory_grows_with_what_is_held():
    size = 60_000_000
    filling = b"1" * size
    before = resident_bytes()
    with mmap.mmap(-1, size) as block:  # of its own: a large heap may have this much to give already
        block.write(filling)
        assert resident_bytes() - before > 0.8 * size  # a little of the rest may have gone meanwhile


def test_the_devices_table_follows(monkeypatch):
    lines = []
    monkeypatch.setattr("hrn_opt.serving.memory.device_memory_report", lambda: "| PyTorch CUDA memory summary |")
    MemoryLog(1, lines.append).photo_done()
    assert len(lines) == 2 and "CUDA" in lines[1]
