"""What a visitor makes is private, and gone when the visitor is."""

import errno
import os
import time
from pathlib import Path

import pytest

from hrn_opt.errors import DiskFull
from hrn_opt.web.folders import Sweep
from hrn_opt.web.sessions import Sessions, Sweeper


def test_each_run_has_its_own_private_folder(tmp_path):
    sessions = Sessions(tmp_path)
    first, second = sessions.begin("a"), sessions.begin("b")
    assert first.folder != second.folder and first.folder.is_dir()
    assert first.folder.stat().st_mode & 0o077 == 0
    assert len(first.folder.name) >= 20  # 16 random bytes


def test_end_stops_and_deletes_only_that_session(tmp_path):
    sessions = Sessions(tmp_path)
    mine, other = sessions.begin("mine"), sessions.begin("other")
    (mine.folder / "texture.png").write_bytes(b"x")
    sessions.end("mine")
    sessions.end("mine")  # a second goodbye is no error
    assert mine.stop.is_set() and not mine.folder.exists()
    assert not other.stop.is_set() and other.folder.is_dir()


def test_only_the_latest_ended_runs_stay(tmp_path):
    sessions = Sessions(tmp_path, kept_runs=2, download_s=0)
    runs = []
    for _ in range(4):
        runs.append(sessions.begin("a"))
        runs[-1].stop.set()  # it has ended
    assert [run.folder.is_dir() for run in runs] == [False, False, True, True]


def test_a_run_at_work_is_never_ended_by_a_newer_one(tmp_path):
    sessions = Sessions(tmp_path, kept_runs=2, download_s=0)
    runs = [sessions.begin("a") for _ in range(8)]
    assert all(run.folder.is_dir() and not run.stop.is_set() for run in runs)
    for run in runs[:-1]:
        run.stop.set()
    sessions.begin("a")
    assert [run.folder.is_dir() for run in runs] == [False] * 6 + [True] * 2 and not runs[-1].stop.is_set()
    sessions.end("a")
    assert not any(run.folder.exists() for run in runs)


def upload(root, name):
    photo = root / name / "me.jpg"
    photo.parent.mkdir()
    photo.write_bytes(b"x")
    return photo


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self):
        self.now_s = 1000.0

    def __call__(self):
        return self.now_s


def sweeping(root):
    """Sessions, and the clock that they sweep by."""
    clock = Clock()
    return Sessions(root, sweep=Sweep(clock)), clock


def test_a_photo_goes_with_the_last_session_that_holds_it(tmp_path):
    sessions, shared, mine = Sessions(tmp_path), upload(tmp_path, "hash1"), upload(tmp_path, "hash2")
    for session, photo in (("a", shared), ("a", mine), ("b", shared)):
        sessions.track_upload(session, photo)
    sessions.end("a")
    assert shared.is_file() and not mine.parent.exists()
    sessions.end("b")
    assert not shared.parent.exists()


def test_what_lies_elsewhere_or_belongs_to_the_page_is_never_deleted(tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    (sessions, clock), example, elsewhere = sweeping(root), upload(root, "example"), upload(tmp_path, "elsewhere")
    sessions.spare_present()
    for photo in (example, elsewhere, root / "hash" / ".." / ".." / "elsewhere" / "me.jpg"):
        sessions.track_upload("a", photo)
    sessions.end("a")
    assert sessions.sweep(60) == 0
    clock.now_s += 9999
    assert sessions.sweep(60) == 0
    assert example.is_file() and elsewhere.is_file()


def test_only_uploads_are_held(tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    sessions, elsewhere = Sessions(root), upload(tmp_path, "elsewhere")
    assert sessions.holds(upload(root, "mine"))
    (root / "mine" / "link").symlink_to(elsewhere)
    for other in (elsewhere, root / "mine" / "link", root / "x" / ".." / ".." / "elsewhere" / "me.jpg", root / "mine"):
        assert not sessions.holds(other)
    assert not any(sessions.holds(Path(odd)) for odd in ("/etc/passwd", "\0", "x" * 5000, "/dev/zero", ""))


def test_a_name_that_no_file_can_have_is_no_file(tmp_path):
    sessions = Sessions(tmp_path)
    folder = sessions.new_folder("me")
    (folder / "me.glb").touch()
    assert sessions.file("me", folder.name, "me.glb") == folder / "me.glb"
    for name in ("\0", "x" * 300, "x/" * 3000, "../me.glb", "", ".", "\ud800"):
        assert sessions.file("me", folder.name, name) is None


def test_a_sweep_takes_what_is_old_and_leaves_what_is_in_use(tmp_path):
    sessions, clock = sweeping(tmp_path)
    old, young = sessions.begin("a"), sessions.begin("a")
    (young.folder / "texture.png").touch()
    left = upload(tmp_path, "upload")
    sessions.track_upload("a", left)
    assert sessions.sweep(60) == 0
    clock.now_s += 59
    assert sessions.sweep(60) == 0
    (young.folder / "texture.png").write_bytes(b"x")
    clock.now_s += 1
    assert sessions.sweep(60) == 2
    assert not old.folder.exists() and not left.parent.exists() and young.folder.is_dir()
    assert not sessions._photos and sessions._runs == {"a": [young]}  # nothing is remembered of what has gone
    sessions.end("a")
    assert not young.folder.exists()


@pytest.mark.parametrize("seconds", [-1e8, 1e8])
def test_a_jump_of_the_machine_s_clock_deletes_nothing(tmp_path, seconds):
    sessions, clock = sweeping(tmp_path)
    run = sessions.begin("a")
    os.utime(run.folder, (time.time() + seconds,) * 2)
    assert sessions.sweep(60) == 0
    clock.now_s += 59
    assert sessions.sweep(60) == 0 and run.folder.is_dir()


def test_a_full_disk_is_told_in_a_sentence(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "mkdir", full)
    for make in (Sessions(tmp_path).begin, Sessions(tmp_path).new_folder):
        with pytest.raises(DiskFull, match="disk is full"):
            make("a")


def test_the_janitor_sweeps_by_itself_and_stops(tmp_path):
    sessions, clock = sweeping(tmp_path)
    run, others = sessions.begin("a"), []
    janitor = Sweeper(sessions, kept_s=60, every_s=0.01, sweep_others=lambda: others.append(1) or 1)
    gives_up_at = time.monotonic() + 60
    while run.folder.exists() and time.monotonic() < gives_up_at:
        clock.now_s += 10
        time.sleep(0.01)
    janitor.close()
    assert not run.folder.exists() and others and not janitor._thread.is_alive()


def test_a_room_goes_with_its_session(tmp_path):
    sessions = Sessions(tmp_path)
    mine, other = sessions.new_folder("me"), sessions.new_folder("you")
    (mine / "outlined.jpg").write_bytes(b"x")
    assert mine != other and mine.stat().st_mode & 0o077 == 0
    sessions.end("me")
    assert not mine.exists() and other.is_dir()


def test_a_run_that_has_just_ended_stays_for_its_download(tmp_path):
    sessions = Sessions(tmp_path, kept_runs=1, download_s=3600)
    runs = [sessions.begin("a") for _ in range(4)]
    for run in runs:
        run.stop.set()
    sessions.begin("a")
    assert all(run.folder.is_dir() for run in runs)
