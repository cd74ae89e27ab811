"""The pack fetched from a stand-in of the hub, from a folder, and not at all."""

import errno
import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hrn_opt.errors import OutputUnwritable, PackDamaged, PackDownloadFailed, PackForeign, PackIncomplete
from hrn_opt.hrn.pack import fetch
from hrn_opt.hrn.pack import published as pack
from hrn_opt.hrn.pack.home import is_prepared
from hrn_opt.hrn.pack.prepared import open_prepared
from tests.hrn.pack.hub_stand_in import serving

DEPTH_NET = "face_alignment/depth-6c4283c0e0.zip"


@pytest.fixture(autouse=True)
def hub_cache(monkeypatch, tmp_path):
    """The hub's own locks and settings stay inside the test."""
    monkeypatch.setenv("MODELSCOPE_CACHE", str(tmp_path / "hub_cache"))


@pytest.fixture
def offered(tmp_path) -> Path:
    """A repository with the pack's names, a little noise in each file, and files that nobody needs."""
    folder = tmp_path / "offered"
    for number, path in enumerate([*pack.FILES, DEPTH_NET, "README.md", "assets/unused.bin"]):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(os.urandom(50_000 + number))
    return folder


@pytest.fixture
def hub(offered):
    with serving(offered, pack.MODEL_ID) as server:
        yield server


@pytest.fixture
def prepared_from(monkeypatch):
    """What would have been prepared: a list of (published, prepared) folders."""
    calls = []

    def stub(published, folder, *, progress):
        pack.verify(published)
        calls.append((published, folder))
        progress("Prepared", 1.0)
        return folder

    monkeypatch.setattr(fetch, "prepare", stub)
    return calls


def assert_same_files(folder, offered):
    for path in pack.FILES:
        assert (folder / path).read_bytes() == (offered / path).read_bytes(), path


def test_exactly_the_files_of_the_pack_are_fetched(hub, offered, tmp_path, prepared_from):
    told = []
    home = tmp_path / "home"
    assert fetch.fetch(hub.endpoint, home, progress=lambda *step: told.append(step)) == home / "prepared"
    assert prepared_from == [(home / "published", home / "prepared")]
    assert set(hub.asked) == set(pack.FILES)
    assert_same_files(home / "published", offered)
    assert not (home / "published.partial").exists()
    fractions = [fraction for _, fraction in told]
    assert fractions == sorted(fractions) and fractions[-1] == 1 and "Downloading" in dict(told)


def test_a_whole_pack_is_not_fetched_again(hub, tmp_path, prepared_from):
    fetch.fetch(hub.endpoint, tmp_path / "home")
    hub.asked.clear()
    hub.status = 500
    fetch.fetch(hub.endpoint, tmp_path / "home")
    assert not hub.asked and len(prepared_from) == 2


def test_a_dropped_connection_is_taken_up_where_it_broke(hub, offered, tmp_path, prepared_from):
    hub.cut_after, hub.cuts = {pack.S3FD_WEIGHTS: 20_000}, 1
    fetch.fetch(hub.endpoint, tmp_path / "home")
    assert (pack.S3FD_WEIGHTS, "bytes=20000-") in hub.ranges
    assert_same_files(tmp_path / "home" / "published", offered)


def test_an_interrupted_fetch_looks_unfinished_and_goes_on(hub, offered, tmp_path, prepared_from):
    home = tmp_path / "home"
    hub.missing = {pack.WEIGHTS}
    with pytest.raises(PackDownloadFailed, match=r"could not be downloaded from http.*it goes on where it stopped"):
        fetch.fetch(hub.endpoint, home)
    assert [path.name for path in home.iterdir()] == ["published.partial"] and not prepared_from
    # As a killed download leaves it: some files whole, one half there.
    content = (offered / pack.WEIGHTS).read_bytes()
    (home / "published.partial" / f"{pack.WEIGHTS}.incomplete").write_bytes(content[:30_000])
    hub.missing, hub.asked, hub.ranges = set(), type(hub.asked)(), []
    fetch.fetch(hub.endpoint, home)
    assert set(hub.asked) == {pack.WEIGHTS} and hub.ranges == [(pack.WEIGHTS, "bytes=30000-")]
    assert_same_files(home / "published", offered)


@pytest.mark.parametrize("damage", ["lost", "changed"])
def test_what_is_lost_or_damaged_is_fetched_anew(hub, offered, tmp_path, monkeypatch, damage):
    home = tmp_path / "home"
    victim = home / "published" / pack.UV_COORDINATES

    def stub(published, folder, *, progress):
        if (published / pack.UV_COORDINATES).read_bytes() != (offered / pack.UV_COORDINATES).read_bytes():
            raise PackDamaged("bfm_uvs2.npy is damaged")
        return folder

    monkeypatch.setattr(fetch, "prepare", stub)
    fetch.fetch(hub.endpoint, home)
    hub.asked.clear()
    if damage == "lost":
        victim.unlink()
    else:
        victim.write_bytes(b"x" * victim.stat().st_size)
    fetch.fetch(hub.endpoint, home)
    assert dict(hub.asked) == {pack.UV_COORDINATES: 1}
    assert_same_files(home / "published", offered)


def test_a_repository_that_lacks_what_the_texture_needs_is_incomplete(hub, offered, tmp_path, prepared_from):
    (offered / pack.RETOUCH_WEIGHTS).unlink()
    with pytest.raises(PackIncomplete, match=r"de_retouching_model\.pth is missing"):
        fetch.fetch(hub.endpoint, tmp_path / "home")
    assert not (tmp_path / "home" / "published").exists() and not prepared_from


@pytest.mark.parametrize("path", [path for path, part in pack.FILES.items() if part is not pack.Part.RECONSTRUCT])
def test_a_repository_may_lack_what_is_optional(hub, offered, tmp_path, prepared_from, path):
    (offered / path).unlink()
    fetch.fetch(hub.endpoint, tmp_path / "home")
    assert len(prepared_from) == 1


def test_revisions_are_tried_in_their_order(hub, offered, tmp_path, prepared_from):
    fetch.fetch(hub.endpoint, tmp_path / "home")
    assert set(hub.revisions) == {"v2.0.0-HRN"}
    hub.known_revisions, hub.revisions = {"master"}, []
    fetch.fetch(hub.endpoint, tmp_path / "other")
    assert set(hub.revisions) == {"v2.0.0-HRN", "master"} and len(prepared_from) == 2
    assert (tmp_path / "other" / "published" / "revision.txt").read_text() == "master\n"


def test_a_revision_that_is_not_hrn_is_passed_over(hub, offered, tmp_path, monkeypatch):
    tried = []

    def stub(published, folder, *, progress):
        tried.append((published / "revision.txt").read_text().strip())
        if tried[-1] != "master":
            raise PackForeign("pytorch_model.pt is whole, but of another revision.")
        return folder

    monkeypatch.setattr(fetch, "prepare", stub)
    fetch.fetch(hub.endpoint, tmp_path / "home")
    assert tried == ["v2.0.0-HRN", "master"]


def test_the_revision_that_is_asked_for_is_the_only_one(hub, tmp_path, prepared_from):
    fetch.fetch(hub.endpoint, tmp_path / "home")
    hub.revisions = []
    fetch.fetch(hub.endpoint, tmp_path / "home", revision="v9")
    assert set(hub.revisions) == {"v9"}
    hub.known_revisions, hub.revisions = {"master"}, []
    with pytest.raises(PackDownloadFailed):
        fetch.fetch(hub.endpoint, tmp_path / "home", revision="v10")
    assert set(hub.revisions) == {"v10"}


def test_a_network_that_fails_is_not_taken_for_a_revision(hub, tmp_path):
    hub.status = 500
    with pytest.raises(PackDownloadFailed):
        fetch.fetch(hub.endpoint, tmp_path / "home")
    assert set(hub.revisions) == {"v2.0.0-HRN"}


def test_what_is_on_the_disk_counts_as_done(hub, offered, tmp_path, prepared_from, monkeypatch):
    monkeypatch.setattr(fetch, "DOWNLOAD_BYTES", sum((offered / path).stat().st_size for path in pack.FILES))
    home, told = tmp_path / "home", []
    (home / "published.partial" / "assets").mkdir(parents=True)
    whole = (offered / pack.MORPHABLE_MODEL).read_bytes()
    (home / "published.partial" / pack.MORPHABLE_MODEL).write_bytes(whole)
    fetch.fetch(hub.endpoint, home, progress=lambda step, fraction: told.append((step, fraction)))
    downloading = [fraction / 0.8 for step, fraction in told if step == "Downloading"]
    assert downloading[0] > len(whole) / fetch.DOWNLOAD_BYTES and downloading[-1] == pytest.approx(1)


def test_a_folder_in_another_layout_will_do(published_pack, tmp_path):
    """HRN's own repository has other folders, and other names for two of the files."""
    clone = tmp_path / "HRN"
    names = {pack.WEIGHTS: "hrn_v1.1/epoch_10.pth", pack.RETOUCH_WEIGHTS: "de-retouching.pth"}
    for path in pack.FILES:
        place = clone / "assets" / "3dmm_assets" / names.get(path, f"BFM/{Path(path).name}")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(published_pack / path)
    (clone / "util").mkdir()
    (clone / "assets/3dmm_assets/BFM/BBRegressorParam_r.mat").rename(clone / "util" / "BBRegressorParam_r.mat")
    opened = open_prepared(fetch.fetch(str(clone), tmp_path / "home"))
    assert opened.has_detectors and not opened.manifest.notes


def test_a_folder_without_any_of_it_says_what_is_missing(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(PackIncomplete, match=r"pytorch_model\.pt"):
        fetch.fetch(str(tmp_path / "empty"), tmp_path / "home")


def test_an_unknown_model_says_so_in_one_sentence(hub, tmp_path, monkeypatch):
    monkeypatch.setattr(pack, "MODEL_ID", "nobody/nothing")
    with pytest.raises(PackDownloadFailed, match=r"404.*--from \(or \$HRN_OPT_PACK_SOURCE\)\.$") as caught:
        fetch.fetch(hub.endpoint, tmp_path / "home")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


def test_a_full_disk_is_told_apart(hub, tmp_path, monkeypatch):
    from modelscope_hub.errors import FileDownloadError

    def full(*_, **__):
        failures = {pack.WEIGHTS: OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))}
        raise FileDownloadError("1 of 14 failed", failed_files=failures, total=14, output_dir=tmp_path)

    # By its module: the package's attribute of that name is the function.
    module = importlib.import_module("modelscope.hub.snapshot_download")
    monkeypatch.setattr(module, "snapshot_download", full)
    with pytest.raises(
        OutputUnwritable, match=r"No space left on device\); free 1\.2 GB there, or give another folder with --to"
    ):
        fetch.fetch(hub.endpoint, tmp_path / "home")


def test_a_home_that_cannot_be_made(hub, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputUnwritable, match="Not a directory"):
        fetch.fetch(hub.endpoint, tmp_path / "file" / "home")


def test_a_folder_is_prepared_in_place_without_detectors_too(linked_pack, tmp_path, prepared_from):
    (linked_pack / pack.FAN_ARCHIVE).unlink()
    assert fetch.fetch(str(linked_pack), tmp_path / "home") == tmp_path / "home" / "prepared"
    assert prepared_from == [(linked_pack, tmp_path / "home" / "prepared")]
    with pytest.raises(PackIncomplete, match="is no folder"):
        fetch.fetch(str(tmp_path / "nowhere"), tmp_path / "home")


def run_command(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "hrn_opt", "fetch", *map(str, arguments)],
        capture_output=True,
        text=True,
        env=os.environ | {name: str(value) for name, value in environment.items()},
        cwd=Path(__file__).parents[3],
    )


def test_the_command_fetches_checks_and_prepares(published_pack, tmp_path):
    """From the stand-in to a pack that opens, with the settings in the environment."""
    with serving(published_pack, pack.MODEL_ID) as hub:
        run = run_command(HRN_OPT_PACK_SOURCE=hub.endpoint, HRN_OPT_HOME=tmp_path / "home")
    assert run.returncode == 0, run.stderr
    assert run.stdout == f"HRN is ready in {tmp_path / 'home' / 'prepared'}\n"
    opened = open_prepared(tmp_path / "home" / "prepared")
    assert opened.has_detectors and set(opened.manifest.sources) == set(pack.FILES)


def test_the_command_fails_in_one_sentence(linked_pack, tmp_path):
    (linked_pack / pack.RETOUCH_WEIGHTS).unlink()
    run = run_command("--from", linked_pack, "--to", tmp_path / "home")
    assert run.returncode == 1 and run.stdout == ""
    assert run.stderr.splitlines()[-1].startswith("hrn-opt: de_retouching_model.pth is missing")
    assert not is_prepared(tmp_path / "home" / "prepared")


@pytest.mark.slow
def test_no_network_at_all(hub, tmp_path):
    """The hub's client tries for some seconds before it gives up."""
    with serving(tmp_path, pack.MODEL_ID) as gone:
        pass
    with pytest.raises(PackDownloadFailed, match="NetworkError"):
        fetch.fetch(gone.endpoint, tmp_path / "home")
