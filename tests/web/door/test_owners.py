"""The registry of owners: the first has it, equal uploads are shared, paths cannot be bent, memory is bounded."""

import threading

import pytest

from hrn_opt.web.door.owners import Owners


@pytest.fixture
def owners(tmp_path):
    for folder in ("served/ada/run", "served/bob", "elsewhere"):
        (tmp_path / folder).mkdir(parents=True)
    return Owners(tmp_path / "served")


def test_a_session_belongs_to_who_comes_first(owners):
    assert owners.claim_session("s", "ada") and owners.claim_session("s", "ada")
    assert not owners.claim_session("s", "bob") and owners.visitor_of("s") == "ada"


def test_only_owners_read(owners, tmp_path):
    served = tmp_path / "served"
    owners.claim_folder("ada", "ada")
    assert owners.may_read(f"{served}/ada/run/x.png", "ada") and not owners.may_read(f"{served}/ada/run/x.png", "bob")
    owners.claim_path(f"{served}/ada/me.jpg", "bob")  # who uploads the same photo
    assert all(owners.may_read(f"{served}/ada/me.jpg", visitor) for visitor in ("ada", "bob"))
    owners.forget_folder("ada")
    assert not owners.may_read(f"{served}/ada/me.jpg", "ada")


def test_no_path_leads_into_anothers_folder(owners, tmp_path):
    served = tmp_path / "served"
    owners.claim_folder("ada", "ada")
    owners.claim_folder("2", "ada")
    (served / "ada" / "link").symlink_to(served / "bob")
    for path in (
        f"{served}/ada/../bob/x",
        f"{served}/ada/link/x",
        f"{served}/ada/../../elsewhere/x",
        f"{served}/ada",
        f"{served}/x",
        f"{served}",
        f"{served}-2/ada/x",
        f"{served}/2",
        f"{tmp_path}/elsewhere/x",
        "/etc/passwd",
        "ada/x",
        "\0",
        "",
        "a" * 100_000,
    ):
        assert not owners.may_read(path, "ada"), path
    owners.claim_path(f"{served}/x", "ada")
    owners.claim_path("/etc/passwd", "ada")
    assert not owners.may_read(f"{served}/x", "ada") and not owners.may_read("/etc/passwd", "ada")


def test_public_files_are_for_everybody(owners, tmp_path):
    example = tmp_path / "elsewhere" / "example.jpg"
    owners.make_public([example, tmp_path / "served" / "bob"])
    assert owners.may_read(str(example), "anybody") and owners.may_read(f"{tmp_path}/served/bob/x.jpg", "anybody")
    assert not owners.may_read(f"{tmp_path}/elsewhere/other.jpg", "anybody")


def test_memory_is_bounded_and_the_unused_go_first(tmp_path):
    owners = Owners(tmp_path, most_sessions=10, most_folders=10)
    owners.claim_session("kept", "ada")
    owners.claim_folder("kept", "ada")
    for number in range(50):
        owners.claim_session(f"s{number}", "eve")
        owners.claim_folder(f"f{number}", "eve")
        owners.claim_session("kept", "ada")
        owners.claim_folder("kept", "ada")
    assert owners.visitor_of("kept") == "ada" and owners.may_read(f"{tmp_path}/kept/x", "ada")
    assert owners.visitor_of("s1") is None and not owners.may_read(f"{tmp_path}/f1/x", "eve")
    assert len(owners._sessions) == len(owners._folders) == 10


def test_many_threads_have_one_owner(owners):
    got, start = [], threading.Barrier(8)

    def claim(visitor):
        start.wait()
        got.extend(visitor for n in range(200) if owners.claim_session(str(n), visitor))

    threads = [threading.Thread(target=claim, args=(str(number),)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 200
