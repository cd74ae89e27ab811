"""CPUs and memory within a container's limits, read from made-up trees of every layout."""

import os
from types import SimpleNamespace

import pytest

from hrn_opt import machine

GIB = 1 << 30
V2 = "35 30 0:31 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate"
V1_MEMORY = "36 31 0:32 {root} /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory"
V1_CPU = "37 31 0:33 {root} /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct"


@pytest.fixture(autouse=True)
def plenty(monkeypatch):
    """A machine with 16 CPUs and 64 GiB free, so that limits decide."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)), raising=False)
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=64 * GIB))


@pytest.fixture
def system(tmp_path):
    """Makes a tree: the lines of /proc/self/cgroup and of mountinfo, and files below /sys/fs/cgroup."""

    def make(own, mounts, files):
        for name, lines in (("cgroup", own), ("mountinfo", mounts)):
            path = tmp_path / "proc/self" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("\n".join(lines) + "\n")
        for name, content in files.items():
            path = tmp_path / "sys/fs/cgroup" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{content}\n")
        return tmp_path

    return make


def memory_v2(folder, limit, used, inactive=0):
    return {
        f"{folder}memory.max": limit,
        f"{folder}memory.current": used,
        f"{folder}memory.stat": f"anon 5\nfile 9\ninactive_file {inactive}\nactive_file 7",
    }


def memory_v1(folder, limit, used, inactive=0):
    return {
        f"memory/{folder}memory.limit_in_bytes": limit,
        f"memory/{folder}memory.usage_in_bytes": used,
        f"memory/{folder}memory.stat": f"inactive_file 1\ntotal_inactive_file {inactive}",
    }


def test_without_control_groups_the_machine_decides(tmp_path):
    assert machine.usable_cpus(tmp_path) == 16
    assert machine.free_memory_bytes(tmp_path) == 64 * GIB


def test_v2_in_a_container(system):
    files = {"cpu.max": "200000 100000", **memory_v2("", 3 * GIB, 2 * GIB, GIB // 2)}
    tree = system(["0::/"], [V2], files)
    assert machine.usable_cpus(tree) == 2
    assert machine.free_memory_bytes(tree) == 3 * GIB // 2  # the page cache's idle half GiB comes back when needed


def test_v2_without_limits(system):
    tree = system(["0::/a"], [V2], {"a/cpu.max": "max 100000", **memory_v2("a/", "max", 2 * GIB)})
    assert (machine.usable_cpus(tree), machine.free_memory_bytes(tree)) == (16, 64 * GIB)


@pytest.mark.parametrize(("outer", "inner"), [(1, 4), (4, 1)])
def test_the_tightest_group_holds(system, outer, inner):
    files = {"a/cpu.max": f"{outer}00000 100000", "a/b/c/cpu.max": f"{inner}00000 100000"}
    files |= memory_v2("a/", outer * GIB, 0) | memory_v2("a/b/c/", inner * GIB, 0)
    tree = system(["0::/a/b/c"], [V2], files)
    assert (machine.usable_cpus(tree), machine.free_memory_bytes(tree)) == (1, GIB)


def test_a_group_beside_is_none_of_ours(system):
    tree = system(["0::/a"], [V2], {"b/cpu.max": "100000 100000", **memory_v2("b/", GIB, 0)})
    assert (machine.usable_cpus(tree), machine.free_memory_bytes(tree)) == (16, 64 * GIB)


V1_FILES = {
    **memory_v1("", 2 * GIB, GIB, GIB // 4),
    "cpu,cpuacct/cpu.cfs_quota_us": 250000,
    "cpu,cpuacct/cpu.cfs_period_us": 100000,
}


@pytest.mark.parametrize(
    ("path", "root"),
    [("/pod/box", "/pod/box"), ("/", "/"), ("/elsewhere", "/pod/box"), ("/../../up", "/")],
    ids=["the host's names", "names of its own", "moved later", "a namespace within"],
)
def test_v1_in_a_container(system, path, root):
    """What is mounted is the container's own group, whatever /proc calls it."""
    own = [f"4:memory:{path}", f"3:cpu,cpuacct:{path}", "1:name=systemd:/"]
    tree = system(own, [V1_MEMORY.format(root=root), V1_CPU.format(root=root)], V1_FILES)
    assert machine.usable_cpus(tree) == 3  # two and a half
    assert machine.free_memory_bytes(tree) == 5 * GIB // 4


def test_v1_without_limits(system):
    files = {**memory_v1("", 9223372036854771712, GIB), "cpu,cpuacct/cpu.cfs_quota_us": -1}
    files["cpu,cpuacct/cpu.cfs_period_us"] = 100000
    tree = system(["4:memory:/", "3:cpu,cpuacct:/"], [V1_MEMORY.format(root="/"), V1_CPU.format(root="/")], files)
    assert (machine.usable_cpus(tree), machine.free_memory_bytes(tree)) == (16, 64 * GIB)


def test_hybrid(system):
    """Version 1 has the memory, version 2 the CPUs."""
    unified = V2.replace("/sys/fs/cgroup", "/sys/fs/cgroup/unified")
    files = {**memory_v1("box/", GIB, 0), "unified/box/cpu.max": "50000 100000"}
    tree = system(["4:memory:/box", "0::/box"], [V1_MEMORY.format(root="/"), unified], files)
    assert (machine.usable_cpus(tree), machine.free_memory_bytes(tree)) == (1, GIB)


def test_more_used_than_allowed_leaves_nothing(system):
    assert machine.free_memory_bytes(system(["0::/"], [V2], memory_v2("", GIB, 2 * GIB))) == 0


def test_the_affinity_counts_below_a_limit(system, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3}, raising=False)
    assert machine.usable_cpus(system(["0::/"], [V2], {"cpu.max": "800000 100000"})) == 1
    monkeypatch.delattr(os, "sched_getaffinity")  # as on macOS
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert machine.usable_cpus(system(["0::/"], [V2], {})) == 1


def test_broken_files_are_no_limits(system):
    tree = system(["0::/"], [V2], {"cpu.max": "x", "memory.max": "", "memory.current": "5"})
    assert (machine.usable_cpus(tree), machine.free_memory_bytes(tree)) == (16, 64 * GIB)


@pytest.mark.parametrize(
    ("flags", "fast"),
    [
        ("fpu avx512f avx512_bf16 amx_tile", True),
        ("fpu amx_bf16", True),
        ("fpu avx512f avx512_bf160", False),
        ("", False),
    ],
)
def test_bf16_is_fast_where_the_processor_says_so(tmp_path, flags, fast):
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text(f"processor\t: 0\nflags\t\t: {flags}\nbugs\t\t: avx512_bf16\n")
    assert machine.has_fast_bf16(tmp_path) == fast


def test_bf16_is_not_fast_where_nothing_is_known(tmp_path):
    assert not machine.has_fast_bf16(tmp_path)
