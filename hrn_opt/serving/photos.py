"""Opened photos with the faces found in them, kept for a while: who looks for faces will soon ask for one of them."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from hrn_opt.pipeline import Detection
from hrn_opt.serving.jobs import ModelChoice
from hrn_opt.types import Photo

MOST_BYTES = 256 << 20  # of all photos together; the one asked for last stays whatever it takes

_Key = tuple[Path, int, int]  # a file, its size, when it was written


@dataclass
class _Entry:
    photo: Photo
    detections: dict[ModelChoice, Detection] = field(default_factory=dict)


class OpenPhotos:
    """The photos asked for last. For one thread.

    open: makes the photo of a file; it may be told to stop.
    """

    def __init__(self, open: Callable[[Path, threading.Event], Photo], most_bytes: int = MOST_BYTES):
        self._open = open
        self._most_bytes = most_bytes
        self._entries: OrderedDict[_Key, _Entry] = OrderedDict()

    def detection(
        self, path: Path, choice: ModelChoice, detect: Callable[[Photo], Detection], stop: threading.Event
    ) -> Detection:
        """The photo and its faces; opened, and looked through, unless that was done. Raises what these raise."""
        entry = self._entry(path, stop)
        if choice not in entry.detections:
            entry.detections[choice] = detect(entry.photo)
        return entry.detections[choice]

    def forget_gone(self) -> None:
        """Lets go of those whose files are gone."""
        for key in [key for key in self._entries if not key[0].exists()]:
            del self._entries[key]

    def _entry(self, path: Path, stop: threading.Event) -> _Entry:
        key = _key_of(path)
        if key not in self._entries:
            self.forget_gone()  # programs' photos are deleted with their answers
            self._entries[key] = _Entry(self._open(path, stop))
        self._entries.move_to_end(key)
        while len(self._entries) > 1 and self._bytes() > self._most_bytes:
            self._entries.popitem(last=False)
        return self._entries[key]

    def _bytes(self) -> int:
        return sum(entry.photo.rgb.nbytes for entry in self._entries.values())


def _key_of(path: Path) -> _Key:
    try:
        status = path.stat()
    except OSError:  # opening it says what is wrong
        return path, -1, -1
    return path, status.st_size, status.st_mtime_ns
