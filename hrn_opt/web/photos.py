"""Decoded photos: each visitor's is opened once, however often he asks for something of it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable

from hrn_opt.types import Photo

MOST_BYTES = 256 << 20  # of all visitors together; the one asked for last stays whatever it takes


class OpenPhotos:
    """The visitors' decoded photos, those asked for last; from any thread.

    open: makes the photo of a file.
    """

    def __init__(self, open: Callable[[str], Photo], most_bytes: int = MOST_BYTES):
        self._open = open
        self._most_bytes = most_bytes
        self._photos: OrderedDict[tuple[str, str], Photo] = OrderedDict()
        self._lock = threading.Lock()

    def photo(self, session: str, path: str) -> Photo:
        """The visitor's photo in the file, opened unless it is still there; raises what opening raises."""
        with self._lock:
            known = self._photos.get((session, path))
        photo = known or self._open(path)
        with self._lock:
            self._photos[session, path] = photo
            self._photos.move_to_end((session, path))
            while len(self._photos) > 1 and sum(one.rgb.nbytes for one in self._photos.values()) > self._most_bytes:
                self._photos.popitem(last=False)
        return photo

    def forget(self, session: str) -> None:
        """Lets go of all of a visitor's photos."""
        with self._lock:
            for key in [key for key in self._photos if key[0] == session]:
                del self._photos[key]
