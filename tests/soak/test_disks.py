"""Disks that are full, cannot be written or are gone, and a proxy that does not answer."""

import os
import subprocess

import httpx
import pytest

from tests.soak.house import LARGE, SMALL, photos_in, post, until

pytestmark = pytest.mark.slow
_DISK_MIB = 128  # at least 64 must be free for /readyz to say yes


@pytest.fixture
def mount(tmp_path):
    """Mounts a small disk of its own, with these options."""
    folders = []

    def mount(options=""):
        folder = tmp_path / f"disk{len(folders)}"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={_DISK_MIB}m{options}", "none", str(folder)]
        if os.getuid() or subprocess.run(command, capture_output=True).returncode:
            pytest.skip("mounting a disk is not allowed on this system")
        folders.append(folder)
        return folder

    yield mount
    for folder in folders:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(disk, but_bytes=0):
    """The file that takes all the room but so much."""
    path = disk / "filler"
    left_bytes = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize - but_bytes
    path.write_bytes(bytes(left_bytes))
    return path


def assert_no_room(answer):
    problem = answer.json()
    assert answer.status_code == 507 and answer.headers["content-type"] == "application/problem+json", answer.text
    assert len(problem["detail"]) > 20 and "Errno" not in problem["detail"] and "/" not in problem["detail"]


@pytest.mark.parametrize(
    ("left_bytes", "options"), [(0, SMALL), (64 << 10, SMALL), (1 << 20, LARGE), (1 << 20, LARGE | {"format": "obj"})]
)
def test_a_full_disk_is_said_and_forgotten_when_there_is_room(mount, start, photo, left_bytes, options):
    """No room for the photo, for half of it, for its files, for half of these."""
    disk = mount()
    house = start("--concurrency", "1", temporary=disk).until_ready()
    filler = fill(disk, left_bytes)
    for _ in range(2):
        assert_no_room(post(house.address, photo, **options))
    until(lambda: not photos_in(house) or photos_in(house) == [filler])
    filler.unlink()
    assert post(house.address, photo, **options).status_code == 200
    house.signal()
    house.assert_ended_well()


def test_the_page_says_it_too(mount, start, photo):
    disk = mount()
    house = start(temporary=disk).until_ready()
    filler = fill(disk)
    upload = {"files": photo}
    answer = httpx.post(f"{house.address}/gradio_api/upload", files=upload, timeout=60)
    assert answer.status_code == 507 and "disk is full" in answer.text
    filler.unlink()
    assert httpx.post(f"{house.address}/gradio_api/upload", files=upload, timeout=60).status_code == 200
    assert not [path for path in house.left() if path.name.startswith("tmp")], "part files"
    house.signal()
    house.assert_ended_well()


@pytest.mark.parametrize("disk", ["read-only", "full", "missing"])
def test_a_disk_that_cannot_be_used_from_the_start_is_a_sentence(mount, start, tmp_path, disk):
    if disk == "missing":
        house = start(TMPDIR=str(tmp_path / "missing"))
    else:
        folder = mount(",ro" if disk == "read-only" else ",nr_inodes=1")
        house = start(temporary=folder)
    assert house.exit_code() == 2
    (line,) = house.log.splitlines()
    assert line.startswith("hrn-opt: The folder ") and "set TMPDIR to a folder" in line


def test_a_folder_that_was_deleted_meanwhile_is_said(start, photo):
    """Some systems clear their folders of temporary files while programs use them; the server must be started anew."""
    house = start("--concurrency", "1").until_ready()
    for path in house.temporary.iterdir():
        subprocess.run(["rm", "-r", str(path)], check=True)
    assert_no_room(post(house.address, photo, **SMALL))
    house.signal()
    house.assert_ended_well()


def test_a_proxy_in_the_environment_is_not_asked(start, photo):
    proxies = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "ALL_PROXY"), "http://127.0.0.1:9")
    house = start(**proxies).until_ready()
    assert post(house.address, photo, **SMALL).status_code == 200
    house.signal()
    house.assert_ended_well()
