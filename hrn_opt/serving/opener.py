"""Photos of strangers, opened in a process of their own that may die: its time and its memory have an end.

Pictures are read by libraries in C; a file made to hurt one of them hurts this process alone. It holds no model and no
torch. What it answers is JSON and raw pixels, never a pickle, as its word may be the file's. Programs that open photos
of their own use `open_photo` in their own process.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from contextlib import suppress
from dataclasses import asdict
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from hrn_opt import errors
from hrn_opt.errors import HrnOptError, PhotoMissing, PhotoTooCostly, Stopped
from hrn_opt.photo import PhotoLimits, open_photo
from hrn_opt.serving.children import end_with_parent, start_child
from hrn_opt.serving.setup import OpenerLimits
from hrn_opt.types import Photo

_LOOKS_EVERY_S = 0.05  # whether somebody wants it to stop
_STARTS_WITHIN_S = 60.0  # on a machine that is busy; 0.25 s are usual
_READY = b"ready"


class PhotoOpener:
    """Opens photos in a process of its own, which is replaced when it dies. For one thread."""

    def __init__(self, limits: OpenerLimits):
        self._limits = limits
        self._is_ready = False
        self._start()

    def open(self, path: Path, stop: threading.Event | None = None) -> Photo:
        """The photo, as `open_photo` gives it.

        Raises what `open_photo` raises; PhotoTooCostly when opening takes more than it may; Stopped.
        """
        if not self._process.is_alive():  # it died with nothing to do, as where memory ran out: not this photo's fault
            self._restart()
        try:
            if not self._is_ready:
                self._await(stop, _STARTS_WITHIN_S)
                self._connection.recv_bytes()
                self._is_ready = True
            self._connection.send_bytes(json.dumps({"path": str(path), **asdict(self._limits.photo)}).encode())
            self._await(stop, self._limits.seconds)
            return self._answer(path)
        except Stopped:
            self._restart()
            raise
        except TimeoutError:
            self._restart()
            raise _costly(path, "time", self._limits.seconds) from None
        except (EOFError, OSError):  # it has died
            self._restart()
            raise _costly(path, "died", self._limits.seconds) from None

    def close(self) -> None:
        self._connection.close()
        self._kill()  # it holds nothing that would have to be put away

    def _start(self) -> None:
        self._connection, other = Pipe()
        self._process = start_child(_serve, (other, self._limits), "hrn-opt-opener")
        other.close()
        self._is_ready = False

    def _restart(self) -> None:
        self._connection.close()
        self._kill()
        self._start()

    def _kill(self) -> None:
        self._process.kill()
        self._process.join()
        self._process.close()

    def _await(self, stop: threading.Event | None, seconds: float) -> None:
        """Until there is an answer; TimeoutError when it takes longer."""
        until = time.monotonic() + seconds
        while not self._connection.poll(_LOOKS_EVERY_S):
            if stop is not None and stop.is_set():
                raise Stopped("Stopped while the photo was being opened.")
            if time.monotonic() > until:
                raise TimeoutError

    def _answer(self, path: Path) -> Photo:
        said = json.loads(self._connection.recv_bytes(maxlength=1 << 16))
        if "error" in said:
            raise _error(said, path, self._limits.seconds)
        height, width = said["size_hw"]
        if height * width > self._limits.photo.max_pixels:
            raise OSError("it answers more than it was allowed")
        rgb = np.empty((height, width, 3), np.uint8)
        # NumPy's own memory, written at its place: no second copy of the largest photos.
        received = self._connection.recv_bytes_into(memoryview(rgb.data).cast("B"))
        if received != rgb.nbytes:
            raise OSError("it answers less than it said")
        return Photo(rgb, said["name"])


def _error(said: dict[str, Any], path: Path, seconds: float) -> HrnOptError:
    """The error that the process names; only this package's own are made."""
    if said["error"] == MemoryError.__name__:
        return _costly(path, "memory", seconds)
    if said["error"] == PhotoMissing.__name__:  # whose sentence names the whole path
        return PhotoMissing("The photo is no longer here; upload it again.", photo=path.name, reason="none")
    kind = getattr(errors, said["error"], None)
    if not (isinstance(kind, type) and issubclass(kind, HrnOptError)):
        raise OSError(f"it names no error of ours: {said['error']!r}")
    return kind(said["message"], **said["values"])


def _costly(path: Path, reason: str, seconds: float) -> PhotoTooCostly:
    why = {
        "time": f"takes more than {seconds:.0f} s to open",
        "memory": "takes too much memory to open",
        "died": "could not be opened: reading it broke off",
    }[reason]
    return PhotoTooCostly(
        f"{path.name} {why}; open it in a picture program and save it anew as a JPEG.", photo=path.name, reason=reason
    )


def _serve(connection: Connection, limits: OpenerLimits) -> None:
    """The life of the process: a photo after the other, until the connection ends."""
    end_with_parent()
    _bound_memory(limits.address_space_bytes)
    with suppress(EOFError, OSError), connection:
        connection.send_bytes(_READY)
        while True:
            asked = json.loads(connection.recv_bytes())
            path, photo_limits = asked.pop("path"), PhotoLimits(**asked)
            _open_one(connection, path, photo_limits)


def _open_one(connection: Connection, path: str, limits: PhotoLimits) -> None:
    try:
        photo = open_photo(path, limits=limits)
    except HrnOptError as error:
        _refuse(connection, MemoryError() if _lacked_memory(error) else error)
        return
    except MemoryError as error:
        _refuse(connection, error)
        return
    height, width = photo.size_hw
    connection.send_bytes(json.dumps({"size_hw": [height, width], "name": photo.name}).encode())
    connection.send_bytes(memoryview(photo.rgb.data).cast("B"))


def _refuse(connection: Connection, error: Exception) -> None:
    said = {"error": type(error).__name__, "message": str(error), "values": getattr(error, "values", {})}
    connection.send_bytes(json.dumps(said).encode())


def _lacked_memory(error: BaseException) -> bool:
    """Whether memory that ran out is told as a damaged file: decoders raise it in the midst of reading."""
    cause = error.__cause__ or error.__context__
    return isinstance(cause, MemoryError) or (cause is not None and _lacked_memory(cause))


def _bound_memory(address_space_bytes: int) -> None:
    if sys.platform == "linux":  # elsewhere the system does not hold to it
        import resource

        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        most = address_space_bytes if hard == resource.RLIM_INFINITY else min(address_space_bytes, hard)
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
