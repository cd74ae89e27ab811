"""What the server's memory does over many photos, in its log."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from hrn_opt.machine import resident_bytes
from hrn_opt.runtime import device_memory_report

log = logging.getLogger(__name__)


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
        self._write(f"Memory after {photos} photos: resident {resident_bytes() / 2**20:.0f} MiB")
        if report := device_memory_report():
            self._write(report)
