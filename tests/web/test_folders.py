"""A server's own folder: locked while the server lives, swept when it is dead, and never more than its quota in it."""

import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hrn_opt.errors import DiskFull, OutputUnwritable
from hrn_opt.web import folders
from hrn_opt.web.door.uploads import Uploads
from hrn_opt.web.folders import PREFIX, PrivateFolder, Quota, sweep_dead

ROOT = Path(__file__).parents[2]
OWNER = """
import sys, time
from hrn_opt.web.folders import PrivateFolder
with PrivateFolder.open(sys.argv[1]) as folder:
    (folder.path / "photo.jpg").write_bytes(b"x")
    print(folder.path, flush=True)
    time.sleep(600)
"""


@pytest.fixture
def owner(tmp_path):
    """A process that owns a folder below tmp_path, and the folder."""
    process = subprocess.Popen([sys.executable, "-c", OWNER, tmp_path], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    with process:
        yield process, Path(process.stdout.readline().strip())
        process.kill()


def test_a_folder_is_private_and_goes_at_the_end(tmp_path):
    with PrivateFolder.open(tmp_path) as folder:
        (folder.path / "photo.jpg").write_bytes(b"x")
        assert folder.path.stat().st_mode & 0o077 == 0 and folder.path.parent.stat().st_mode & 0o077 == 0
        assert folder.path.parent.name.startswith(PREFIX)
        assert sweep_dead(tmp_path) == 0 and (folder.path / "photo.jpg").is_file()
    assert not any(tmp_path.iterdir())


def test_what_a_killed_server_leaves_is_swept_by_the_next(tmp_path, owner):
    process, folder = owner
    assert sweep_dead(tmp_path) == 0 and (folder / "photo.jpg").is_file()
    process.kill()
    process.wait()
    assert (folder / "photo.jpg").is_file()
    with PrivateFolder.open(tmp_path) as mine:
        assert sweep_dead(tmp_path) == 1
        assert [path.name for path in tmp_path.iterdir()] == [mine.path.parent.name]


def dead_folder(parent, name="dead"):
    folder = parent / f"{PREFIX}{name}"
    (folder / "files" / "run").mkdir(parents=True)
    (folder / "files" / "run" / "photo.jpg").write_bytes(b"x")
    (folder / "lock").touch()
    return folder


def test_sweepers_in_a_race_harm_nobody(tmp_path):
    for number in range(40):
        dead_folder(tmp_path, str(number))
    with PrivateFolder.open(tmp_path) as mine, ThreadPoolExecutor(4) as pool:
        counts = list(pool.map(sweep_dead, [tmp_path] * 8))
        assert sum(counts) == 40 and mine.path.is_dir()
        assert len(list(tmp_path.iterdir())) == 1


def test_folders_made_while_others_sweep_stay(tmp_path):
    def make_one(_):
        with PrivateFolder.open(tmp_path) as folder:
            (folder.path / "photo.jpg").write_bytes(b"x")
            return (folder.path / "photo.jpg").is_file()

    with ThreadPoolExecutor(4) as pool:
        sweeps = [pool.submit(sweep_dead, tmp_path) for _ in range(100)]
        assert all(pool.map(make_one, range(100)))
        assert sum(one.result() for one in sweeps) == 0


def test_a_sweep_takes_only_what_is_ours(tmp_path):
    elsewhere = dead_folder(tmp_path / "elsewhere")
    root = tmp_path / "root"
    root.mkdir()
    (root / f"{PREFIX}link").symlink_to(elsewhere)
    (root / f"{PREFIX}file").touch()
    (root / f"{PREFIX}unlocked" / "files").mkdir(parents=True)
    shutil.copytree(elsewhere, root / "another_name")
    linked = dead_folder(root, "linked_lock")
    (linked / "lock").unlink()
    (linked / "lock").symlink_to(elsewhere / "lock")
    before = sorted(root.rglob("*"))
    assert sweep_dead(root) == 0
    assert sorted(root.rglob("*")) == before and (elsewhere / "files" / "run" / "photo.jpg").is_file()


def test_links_inside_are_deleted_not_followed(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "photo.jpg").touch()
    dead = dead_folder(tmp_path)
    (dead / "files" / "link").symlink_to(outside)
    assert sweep_dead(tmp_path) == 1 and not dead.exists() and (outside / "photo.jpg").is_file()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a file away; this system's user is another")
def test_another_user_s_folder_stays(tmp_path):
    foreign = dead_folder(tmp_path)
    os.chown(foreign, 12345, 12345)
    assert sweep_dead(tmp_path) == 0 and (foreign / "files" / "run" / "photo.jpg").is_file()


def test_a_folder_whose_lock_was_taken_away_is_left_for_another(tmp_path, monkeypatch):
    take_lock, taken = folders._take_lock, []

    def taken_once(folder, flags):
        if not taken:
            taken.append(folder)
            return None
        return take_lock(folder, flags)

    monkeypatch.setattr(folders, "_take_lock", taken_once)
    with PrivateFolder.open(tmp_path) as folder:
        assert folder.path.parent != taken[0] and not taken[0].exists()


def test_a_lock_that_was_deleted_before_it_was_taken_is_none(tmp_path, monkeypatch):
    dead = dead_folder(tmp_path)

    def lock_late(*_):
        shutil.rmtree(dead)  # another sweeper was quicker
        dead_folder(tmp_path)

    monkeypatch.setattr(folders.fcntl, "flock", lock_late)
    assert sweep_dead(tmp_path) == 0 and (dead / "files" / "run" / "photo.jpg").is_file()


@pytest.mark.parametrize("way", ["argument", "TMPDIR"])
def test_a_place_that_cannot_be_written_is_told_in_a_sentence(tmp_path, monkeypatch, way):
    missing = tmp_path / "missing"
    monkeypatch.setenv("TMPDIR", str(missing))
    with pytest.raises(OutputUnwritable, match=r"missing cannot hold .* \(No such file.*set TMPDIR"):  # noqa: SIM117
        with PrivateFolder.open(missing if way == "argument" else None):
            pass
    assert sweep_dead() == 0


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self):
        self.now_s = 1000.0

    def __call__(self):
        return self.now_s


def test_a_quota_counts_files_promises_and_what_has_just_come(tmp_path):
    clock = Clock()
    quota = Quota(tmp_path, 1000, clock)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "photo.jpg").write_bytes(bytes(400))
    quota.check(600)
    with pytest.raises(DiskFull, match="try again in some minutes") as caught:
        quota.check(601)
    assert caught.value.values == {"reason": "quota", "most_mb": 0}
    quota.promise(500)
    with pytest.raises(DiskFull):
        quota.promise(101)
    quota.arrived(500, 500)  # still counted: the files are not measured again yet
    with pytest.raises(DiskFull):
        quota.check(101)
    clock.now_s += 2  # nothing of it was written
    quota.check(600)
    (tmp_path / "run" / "photo.jpg").unlink()
    clock.now_s += 2
    quota.check(1000)


def test_a_quota_stops_an_upload_of_unknown_length(tmp_path):
    uploads = Uploads(tmp_path, Quota(tmp_path, 1000, Clock()))
    upload = uploads.begin()
    upload.arrived(900)
    with pytest.raises(DiskFull):
        upload.arrived(200)


def test_an_upload_that_ends_early_gives_its_room_back(tmp_path):
    uploads = Uploads(tmp_path, Quota(tmp_path, 1000, Clock()))
    upload = uploads.begin(900)
    with pytest.raises(DiskFull):
        uploads.begin(200)
    upload.arrived(100)
    upload.end()
    uploads.begin(900)


def test_a_disk_without_room_is_no_quota(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: type("Usage", (), {"free": 10})())
    quota = Quota(tmp_path, 1000, Clock())
    quota.check(10)
    with pytest.raises(DiskFull, match="disk is full") as caught:
        quota.check(11)
    assert caught.value.values["reason"] == "disk"


def test_a_large_folder_is_measured_less_often(tmp_path, monkeypatch):
    clock, measured = Clock(), []

    def slowly(_):
        measured.append(clock.now_s)
        clock.now_s += 1
        return 0

    monkeypatch.setattr(folders, "_size_of", slowly)
    quota = Quota(tmp_path, 1000, clock)
    for _ in range(100):
        quota.check()
        clock.now_s += 1
    assert len(measured) == 2


def test_part_files_go_when_the_uploads_that_may_own_them_have_ended(tmp_path):
    (tmp_path / "tmp_folder_of_a_run").mkdir()
    uploads = Uploads(tmp_path, Quota(tmp_path, 1000))
    first, second = uploads.begin(), uploads.begin()
    for name in ("tmp1", "tmp2"):
        (tmp_path / name).touch()
    first.end()
    assert (tmp_path / "tmp1").exists()  # it may be the second one's
    third = uploads.begin()
    (tmp_path / "tmp2").rename(tmp_path / "me.jpg")  # whole
    (tmp_path / "tmp3").touch()
    second.end()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["me.jpg", "tmp3", "tmp_folder_of_a_run"]
    third.end()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["me.jpg", "tmp_folder_of_a_run"]


def test_measuring_a_thousand_files_is_cheap(tmp_path):
    for number in range(1000):
        (tmp_path / str(number % 50)).mkdir(exist_ok=True)
        (tmp_path / str(number % 50) / f"{number}.png").touch()
    began_s = time.perf_counter()
    Quota(tmp_path, 1000).check()
    assert time.perf_counter() - began_s < 1  # 5 ms on a free machine
