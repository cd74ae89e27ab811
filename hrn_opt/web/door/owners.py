"""Whose is what: Gradio knows sessions and files by name only, here each belongs to the visitor who made it."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path

_MOST_SESSIONS = 50_000  # about 10 MB; the longest unused go first
_MOST_FOLDERS = 50_000
_MOST_OWNERS_OF_ONE_FOLDER = 1000  # equal photos share a folder; who comes later may not read it


class Owners:
    """The owners of sessions, events and folders; from any thread, in bounded memory.

    root: the folder that is served: photos and results lie in folders just below it.
    """

    def __init__(self, root: Path, most_sessions: int = _MOST_SESSIONS, most_folders: int = _MOST_FOLDERS):
        self._root = os.path.realpath(root)
        self._most_sessions = most_sessions
        self._most_folders = most_folders
        self._sessions: OrderedDict[str, str] = OrderedDict()
        self._folders: OrderedDict[str, set[str]] = OrderedDict()
        self._public: set[str] = set()  # folders' names, and whole paths
        self._lock = threading.Lock()

    @property
    def root_name(self) -> str:
        """The longer of the last two parts of the root's path, which every path below it holds.

        The other one may be a word that names of photos hold, too, such as "files".
        """
        return max(self._root.split(os.sep)[-2:], key=len)

    def claim_session(self, session: str, visitor: str) -> bool:
        """Whether the session, or event, is the visitor's; the first who uses one has it from then on."""
        with self._lock:
            owner = self._sessions.setdefault(session, visitor)
            self._sessions.move_to_end(session)
            while len(self._sessions) > self._most_sessions:
                self._sessions.popitem(last=False)
            return owner == visitor

    def visitor_of(self, session: str) -> str | None:
        with self._lock:
            return self._sessions.get(session)

    def claim_folder(self, folder_name: str, visitor: str) -> None:
        """Lets the visitor read what lies in that folder of the root, beside others who may."""
        with self._lock:
            owners = self._folders.setdefault(folder_name, set())
            self._folders.move_to_end(folder_name)
            if len(owners) < _MOST_OWNERS_OF_ONE_FOLDER:
                owners.add(visitor)
            while len(self._folders) > self._most_folders:
                self._folders.popitem(last=False)

    def claim_path(self, path: str, visitor: str) -> None:
        """`claim_folder` for the folder below the root in which the path lies; nothing for other paths."""
        if folder_name := self._folder_name(path):
            self.claim_folder(folder_name, visitor)

    def forget_folder(self, folder_name: str) -> None:
        with self._lock:
            self._folders.pop(folder_name, None)

    def make_public(self, paths: Iterable[Path]) -> None:
        """Lets everybody read these: files wherever they lie, such as example photos, or folders of the root."""
        for path in paths:
            with self._lock:
                self._public.add(os.path.realpath(path))

    def may_read(self, path: str, visitor: str) -> bool:
        """Whether the file lies in a folder of the visitor's, or is public. path: as the request says it."""
        real = _real(path)
        folder_name = self._folder_name(path)
        if real is None:
            return False
        with self._lock:
            if real in self._public or (folder_name and os.path.join(self._root, folder_name) in self._public):
                return True
            return bool(folder_name) and visitor in self._folders.get(folder_name, ())

    def _folder_name(self, path: str) -> str:
        """The first folder below the root on the way to the path; "" for what lies elsewhere."""
        real = _real(path)
        if real is None or not real.startswith(self._root + os.sep):
            return ""
        first, slash, _ = real[len(self._root) + 1 :].partition(os.sep)
        return first if slash else ""


def _real(path: str) -> str | None:
    """The absolute path without links; None for what can be no path."""
    try:
        return os.path.realpath(path)
    except (OSError, ValueError):  # a null character, or too long
        return None
