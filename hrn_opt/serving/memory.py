"""What the server's memory does over many photos, in its log."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path

from hrn_opt.runtime import device_memory_report

log = logging.getLogger(__name__)

_STATUS = Path("/proc/self/status")


def resident_bytes(status: Path = _STATUS) -> int | None:
    """This process's resident memory; None where the system does not tell."""
    try:
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
        return int(lines["VmRSS"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None


class MemoryLog:
    """Writes resident memory, and the device's on CUDA, every so many photos; 0 for never. From any thread."""

    def __init__(self, every: int, write: Callable[[str], None] = log.info):
        self._every = every
        self._write = write
        self._photos = 0
        self._lock = threading.Lock()

    def photo_done(self) -> None:
        with self._lock:
            self._photos += 1
            photos = self._photos
        if not self._every or photos % self._every:
            return
        resident = resident_bytes()
        told = "unknown" if resident is None else f"{resident / 2**20:.0f} MiB"
        self._write(f"Memory after {photos} photos: resident {told}")
        if report := device_memory_report():
            self._write(report)
