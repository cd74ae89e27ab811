"""Packs in other layouts than ModelScope's, such as HRN's own repository on GitHub: files are known by their names."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from hrn_opt.hrn.pack import published as pack

# What the same files are called elsewhere.
_OTHER_NAMES = {
    pack.WEIGHTS: ("epoch_10.pth",),  # pretrained_models/hrn_v1.1 on GitHub
    pack.RETOUCH_WEIGHTS: ("de-retouching.pth",),
}
_MOST_FILES = 20_000  # of a folder that is searched; a pack has dozens


@contextmanager
def as_published(folder: Path) -> Iterator[Path]:
    """The folder itself where it has ModelScope's layout, or nothing of the pack; else one of links that has it.

    folder: any that holds the pack's files by their names, however deep. Of several of a name the least deep counts.
    """
    found = _files_of_pack(folder) if folder.is_dir() and not pack.is_published(folder) else {}
    if not found:
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="hrn_opt_pack_") as links:
        for path, file in found.items():
            link = Path(links) / path
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(file.resolve())
        yield Path(links)


def _files_of_pack(folder: Path) -> dict[str, Path]:
    """Where each file of the pack lies below the folder, by its path in the pack."""
    by_name: dict[str, Path] = {}
    for number, file in enumerate(_files_below(folder)):
        if number == _MOST_FILES:
            break
        by_name.setdefault(file.name, file)
    found = {}
    for path in pack.FILES:
        for name in (PurePosixPath(path).name, *_OTHER_NAMES.get(path, ())):
            if name in by_name:
                found[path] = by_name[name]
                break
    return found


def _files_below(folder: Path) -> Iterator[Path]:
    """The least deep first."""
    waiting = [folder]
    while waiting:
        deeper = []
        for one in waiting:
            with os.scandir(one) as entries:
                for entry in sorted(entries, key=lambda entry: entry.name):
                    if entry.is_dir(follow_symlinks=False):
                        deeper.append(Path(entry.path))
                    elif entry.is_file():
                        yield Path(entry.path)
        waiting = deeper
