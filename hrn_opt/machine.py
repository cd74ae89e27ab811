"""How many CPUs and how much memory this process may use: what the machine has, within the limits of its container.

A container's limits are those of its control groups (cgroups). Neither psutil nor `os.cpu_count` knows them, and a
process that goes by the machine's numbers starts too many threads, or is killed for memory that it was told is free.
Both kinds are read, version 2 and version 1, and every group around this process's own, since the tightest one holds.
No package is imported before it is needed: the doctor asks here without any.
"""

from __future__ import annotations

import math
import os
from pathlib import Path, PurePosixPath

_FAST_BF16 = frozenset(("avx512_bf16", "amx_bf16"))  # /proc/cpuinfo's names
_SYSTEM = Path("/")  # tests give a made-up tree instead
# The limit, what is used of it, and the part of that in memory.stat which the kernel gives back when memory is short.
_MEMORY_FILES = (
    ("memory.max", "memory.current", "inactive_file"),  # version 2
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),  # version 1
)


def usable_cpus(system: Path = _SYSTEM) -> int:
    """How many threads can compute at once, at least 1.

    A limit of one and a half CPUs counts as two: two threads use all of it, a single one two thirds.
    """
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = min(map(_cpu_limit, _cgroup_folders(system)), default=math.inf)
    return max(1, count if limit == math.inf else min(count, math.ceil(limit)))


def free_memory_bytes(system: Path = _SYSTEM) -> int:
    """What can be allocated before the system swaps, or before it kills for a limit. ImportError without psutil."""
    import psutil

    available: int = psutil.virtual_memory().available
    left = min(map(_memory_left, _cgroup_folders(system)), default=math.inf)
    return available if left == math.inf else min(available, int(left))


def has_fast_bf16(system: Path = _SYSTEM) -> bool:
    """Whether the processor multiplies bfloat16 in one instruction (AVX512_BF16, AMX), as Linux tells.

    On one that does not, bfloat16 is worked out in float32 and takes longer than that.
    """
    flags = next((line for line in _lines(system / "proc/cpuinfo") if line.startswith("flags")), "")
    return not _FAST_BF16.isdisjoint(flags.split())


def resident_bytes() -> int:
    """What this process holds of the machine's memory. ImportError without psutil."""
    import psutil

    resident: int = psutil.Process().memory_info().rss
    return resident


def _cpu_limit(folder: Path) -> float:
    """CPUs that a control group may use; infinite without a limit."""
    words = _words(folder / "cpu.max") or [*_words(folder / "cpu.cfs_quota_us"), *_words(folder / "cpu.cfs_period_us")]
    if len(words) != 2 or not all(map(str.isdecimal, words)):  # "max 100000" in version 2, -1 in version 1
        return math.inf
    quota_us, period_us = map(int, words)
    return quota_us / period_us if quota_us and period_us else math.inf


def _memory_left(folder: Path) -> float:
    """Bytes that a control group may still take; infinite without a limit."""
    for limit_name, used_name, reclaimable_name in _MEMORY_FILES:
        limit, used = _words(folder / limit_name), _words(folder / used_name)
        if len(limit) == len(used) == 1 and limit[0].isdecimal() and used[0].isdecimal():  # not "max"
            statistics = _words(folder / "memory.stat")
            reclaimable = dict(zip(statistics[::2], statistics[1::2], strict=False)).get(reclaimable_name, "0")
            return max(0, int(limit[0]) - int(used[0]) + int(reclaimable))
    return math.inf


def _cgroup_folders(system: Path) -> list[Path]:
    """This process's control groups and all groups around them, as far as they are mounted here."""
    own = dict[str, str]()  # controller → path of the group; version 2 has them all in one, called ""
    for line in _lines(system / "proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        own |= dict.fromkeys(controllers.split(","), path)
    folders = list[Path]()
    for line in _lines(system / "proc/self/mountinfo"):
        mount, _, filesystem = line.partition(" - ")
        root, point = mount.split()[3:5]
        kind, *_, options = filesystem.split()
        names = {"cgroup": options.split(","), "cgroup2": [""]}.get(kind, [])
        for path in {own[name] for name in names if name in own}:
            parts = _below(path, root)
            folders += [system.joinpath(point.lstrip("/"), *parts[:count]) for count in range(len(parts), -1, -1)]
    return folders


def _below(path: str, root: str) -> tuple[str, ...]:
    """The folders from a mount's root to a group; none where the group is not below it, as in some containers."""
    group = PurePosixPath(path)
    below = group.relative_to(root).parts if group.is_relative_to(root) else ()
    return () if ".." in below else below


def _lines(path: Path) -> list[str]:
    """A file's lines; none where there is no such file, as on other systems than Linux."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def _words(path: Path) -> list[str]:
    return " ".join(_lines(path)).split()
