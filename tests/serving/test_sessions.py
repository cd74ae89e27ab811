"""What a visitor makes is private, and gone when the visitor is."""

from hrn_opt.serving.sessions import Sessions


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


def test_only_the_latest_runs_stay(tmp_path):
    sessions = Sessions(tmp_path, kept_runs=2)
    first, second, third = (sessions.begin("a") for _ in range(3))
    assert first.stop.is_set() and not first.folder.exists()
    assert second.folder.is_dir() and third.folder.is_dir()
    assert not second.stop.is_set() and not third.stop.is_set()
