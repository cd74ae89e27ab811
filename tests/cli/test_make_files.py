"""What the command line writes to, and what it never touches: other people's files, a reader that has gone."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hrn_opt.cli.make import main
from hrn_opt.errors import ModelMissing
from hrn_opt.output import export
from hrn_opt.output.outputs import digest, output_stems
from tests.cli import stand_in
from tests.cli.stand_in import ROOT, save_photo

STAND_IN = Path(stand_in.__file__)
MINE = b"the user's own"


@pytest.fixture
def run(model, tmp_path, capsys, monkeypatch):
    """Runs the command line in tmp_path with --out .; answers (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        try:
            code = main([*map(str, arguments), "--out", "."], load=lambda name, **options: model)
        except SystemExit as stopped:
            code = stopped.code
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return call


@pytest.mark.parametrize(
    ("formats", "mine"),
    [
        ("png", "me.png"),
        ("obj", "me.png"),
        ("obj", "me.mtl"),
        ("glb,clay", "me.clay.glb"),
        ("png", "me.report.json"),
    ],
)
def test_the_user_s_own_file_survives_byte_for_byte(run, model, tmp_path, formats, mine):
    save_photo(tmp_path / "me.jpg")
    (tmp_path / mine).write_bytes(MINE)
    code, _, err = run("me.jpg", "--formats", formats)
    assert code == 2 and mine in err and "--overwrite" in err and err.count("\n") == 1
    assert (tmp_path / mine).read_bytes() == MINE
    assert model.finds == 0 and sorted(path.name for path in tmp_path.iterdir()) == sorted(["me.jpg", mine])
    assert run("me.jpg", "--formats", formats, "--overwrite")[0] == 0
    assert (tmp_path / mine).read_bytes() != MINE
    assert run("me.jpg", "--formats", formats)[0] == 0


def test_the_others_are_done_where_one_is_refused(run, tmp_path):
    save_photo(tmp_path / "a.jpg"), save_photo(tmp_path / "b.jpg")
    (tmp_path / "a.png").write_bytes(MINE)
    code, out, _ = run("a.jpg", "b.jpg", "--formats", "png", "--json")
    assert code == 2 and (tmp_path / "a.png").read_bytes() == MINE and (tmp_path / "b.png").is_file()
    assert json.loads(out.splitlines()[0])["error"]["kind"] == "OutputTaken"


def test_its_own_files_are_replaced(run, tmp_path):
    save_photo(tmp_path / "me.jpg", faces=3)
    calls = [["--formats", "png"], ["--formats", "glb"], ["--formats", "png"], ["--face", "all", "--formats", "obj"]]
    for arguments in [*calls, ["--face", "1", "--formats", "obj,glb"], *calls]:
        assert run("me.jpg", *arguments)[::2] == (0, "")
    made = json.loads((tmp_path / "me.report.json").read_text())["made"]
    assert made == {path.name: digest(path) for path in tmp_path.iterdir() if path.suffix not in (".jpg", ".json")}
    for path in tmp_path.glob("me*.png"):
        path.unlink()
    assert run("me.jpg", "--formats", "png")[0] == 0  # also after they were deleted


def test_its_own_file_that_was_changed_since_stays(run, tmp_path):
    save_photo(tmp_path / "me.jpg")
    assert run("me.jpg", "--formats", "png")[0] == 0
    (tmp_path / "me.png").write_bytes(MINE)
    assert run("me.jpg", "--formats", "png")[0] == 2 and (tmp_path / "me.png").read_bytes() == MINE
    assert run("me.jpg", "--formats", "glb")[0] == 0  # which does not touch it


@pytest.mark.parametrize("stop", [KeyboardInterrupt, ModelMissing("The model is gone.")])
@pytest.mark.parametrize("formats", ["png,glb,obj", "png", "clay,glb"])
def test_what_an_interrupted_call_made_is_its_own(run, model, tmp_path, monkeypatch, stop, formats):
    photo = save_photo(tmp_path / "me.bmp", faces=3)
    whole = model.stream

    def stream(photo, face=0, **options):
        if face == 2:
            raise stop
        return whole(photo, face, **options)

    monkeypatch.setattr(model, "stream", stream)
    assert run(photo, "--face", "all")[0] in (1, 130)
    assert digest(tmp_path / "me-face2.glb") and not (tmp_path / "me-face3.glb").exists()
    report = json.loads((tmp_path / "me.report.json").read_text())
    assert [done["face"] for done in report["reconstructed"]] == [1, 2]
    monkeypatch.setattr(model, "stream", whole)
    assert run(photo, "--face", "all", "--formats", formats)[::2] == (0, "")
    made = json.loads((tmp_path / "me.report.json").read_text())["made"]
    assert made == {path.name: digest(path) for path in tmp_path.iterdir() if path.suffix not in (".bmp", ".json")}


def test_a_face_s_files_and_its_report_are_written_together_or_not_at_all(run, tmp_path, monkeypatch):
    photo = save_photo(tmp_path / "me.bmp", faces=2)
    real = os.replace

    def replace(source, target):
        if Path(target).name == "me-face2.mtl":
            raise KeyboardInterrupt
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    assert run(photo, "--face", "all")[0] == 130
    made = json.loads((tmp_path / "me.report.json").read_text())["made"]
    assert (
        set(made)
        == {path.name for path in tmp_path.glob("me-face*")}
        == {f"me-face1.{ending}" for ending in ("glb", "mtl", "obj", "png")}
    )


def test_a_face_s_file_of_the_user_s_stays(run, tmp_path):
    save_photo(tmp_path / "me.jpg", faces=2)
    (tmp_path / "me-face2.png").write_bytes(MINE)
    assert run("me.jpg", "--formats", "png")[0] == 0  # it writes no such file
    assert run("me.jpg", "--formats", "png", "--face", "all")[0] == 2
    assert (tmp_path / "me-face2.png").read_bytes() == MINE


def test_a_folder_of_that_name(run, tmp_path):
    save_photo(tmp_path / "me.jpg")
    (tmp_path / "me.png").mkdir()
    assert run("me.jpg", "--formats", "png")[0] == 2 and run("me.jpg", "--formats", "png", "--overwrite")[0] == 2
    assert (tmp_path / "me.png").is_dir()


@pytest.mark.parametrize(
    "content", [b"", b"[]", b'{"made": 3}', b"{", b"\xff\xfe", b'{"made": {"me.png": 1}}', b"[" * 99_999]
)
def test_a_foreign_report_proves_nothing(run, tmp_path, content):
    save_photo(tmp_path / "me.jpg")
    (tmp_path / "me.report.json").write_bytes(content)
    (tmp_path / "me.png").write_bytes(MINE)
    assert run("me.jpg", "--formats", "png")[0] == 2 and (tmp_path / "me.png").read_bytes() == MINE


@pytest.mark.parametrize("content", [b'{"made": {}}', b"{}", b'{"made": {}, "report_sha256": ""}'])
def test_somebody_else_s_report_stays(run, model, tmp_path, content):
    save_photo(tmp_path / "me.jpg")
    (tmp_path / "me.report.json").write_bytes(content)
    code, _, err = run("me.jpg", "--formats", "png")
    assert code == 2 and "me.report.json" in err and model.finds == 0
    assert (tmp_path / "me.report.json").read_bytes() == content


@pytest.mark.parametrize("formats", ["png", "glb"])
@pytest.mark.parametrize(("old", "new"), [(b"{", b'{"note": "aunt Ada",'), (b"{", b"{ "), (b'"fake"', b'"best"')])
def test_a_report_that_the_user_edited_stays(run, tmp_path, formats, old, new):
    save_photo(tmp_path / "me.jpg")
    path = tmp_path / "me.report.json"
    assert run("me.jpg", "--formats", "png")[0] == 0
    edited = path.read_bytes().replace(old, new, 1)
    path.write_bytes(edited)
    assert run("me.jpg", "--formats", formats)[0] == 2 and path.read_bytes() == edited
    assert run("me.jpg", "--formats", "png", "--overwrite")[0] == 0 and run("me.jpg", "--formats", "png")[0] == 0


@pytest.mark.parametrize(
    ("sources", "formats", "stems"),
    [
        (["a.jpg", "a.clay.jpg"], "glb,clay", ["a", "a.clay-2"]),
        (["a.clay.jpg", "a.jpg"], "glb,clay", ["a.clay", "a-2"]),
        (["a.jpg", "a.clay.jpg"], "png", ["a", "a.clay"]),
        (["a.jpg", "A.Clay.jpg"], "clay,glb", ["a", "A.Clay-2"]),
        (["a.jpg", "a.normal.jpg"], "png,normal", ["a", "a.normal-2"]),
        (["a.jpg", "a.displacement_40mm.jpg"], "png,displacement", ["a", "a.displacement_40mm-2"]),
        (["a.jpg", "x/a.png", "a-2.jpg"], "png", ["a", "a-2", "a-2-2"]),
        (["é.jpg", "e\u0301.jpg"], "png", ["é", "é-2"]),
        (["a.jpg", "a.jpg"], "png", ["a", "a-2"]),
    ],
)
def test_names_are_unique_over_all_files_of_a_call(tmp_path, sources, formats, stems):
    assert output_stems(sources, tmp_path, tuple(formats.split(","))) == stems


def test_two_photos_whose_files_would_meet(run, tmp_path):
    save_photo(tmp_path / "a.jpg"), save_photo(tmp_path / "a.clay.jpg")
    assert run("a.jpg", "a.clay.jpg", "--formats", "glb,clay")[0] == 0
    made = {path.name for path in tmp_path.glob("*.glb")}
    assert made == {"a.glb", "a.clay.glb", "a.clay-2.glb", "a.clay-2.clay.glb"}


def test_no_photo_of_the_call_is_written_over_not_even_with_overwrite(run, tmp_path):
    names = ["me.jpg", "me.png", "me.normal.png", "me-face1.png"]
    before = {name: Path(save_photo(tmp_path / name)).read_bytes() for name in names}
    assert run(*names, "--formats", "png", "--face", "all", "--overwrite")[0] == 0
    assert {name: (tmp_path / name).read_bytes() for name in names} == before


def test_the_endings_are_those_that_are_written(monkeypatch):
    for name in ("obj_text", "mtl_text"):
        monkeypatch.setattr(export, name, lambda *_: "")
    for name in ("glb", "glb_bytes", "png_bytes", "dense_glb_bytes"):
        monkeypatch.setattr(export, name, lambda *_, **__: b"")
    for name in ("lit_glb_bytes", "webp_bytes", "displacement_png", "_embedded", "_mesh_of", "_turntable_of"):
        monkeypatch.setattr(export, name, lambda *_: b"")
    for millimetres in (20, 40, 1280):
        monkeypatch.setattr(export, "displacement_range_mm", lambda _, mm=millimetres: mm)
        written = set(export.contents_of(_Anything(), tuple(export.WANT_OF_FORMAT), ""))
        endings = set(export.file_endings(export.WANT_OF_FORMAT))
        assert written <= endings and all("displacement" in left for left in endings - written)


class _Anything:
    """Stands for a reconstruction with everything."""

    def __getattr__(self, name):
        return self


CALL = """
import runpy, sys
from hrn_opt.cli.make import main
FakeModel = runpy.run_path(sys.argv.pop(1))["FakeModel"]
sys.exit(main(sys.argv[1:], load=lambda name, **options: FakeModel()))
"""


@pytest.mark.parametrize("arguments", [["--json"], []])
def test_a_reader_that_goes_leaves_the_work_done(tmp_path, arguments):
    photos = [save_photo(tmp_path / f"{number}.jpg") for number in range(6)]
    command = [sys.executable, "-c", CALL, str(STAND_IN), *photos, "--out", str(tmp_path / "out"), "--formats", "png"]
    process = subprocess.Popen([*command, *arguments], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.readline()
    process.stdout.close()
    with process.stderr:
        assert (process.stderr.read(), process.wait(60)) == (b"", 0)
    assert {path.name for path in (tmp_path / "out").glob("*.png")} == {f"{number}.png" for number in range(6)}


def test_standard_output_that_is_closed(tmp_path):
    photo = save_photo(tmp_path / "a.jpg")
    command = [sys.executable, "-c", CALL, str(STAND_IN), photo, "--out", str(tmp_path / "out"), "--formats", "png"]
    done = subprocess.run(["sh", "-c", 'exec "$@" >&- 2>&-', "sh", *command], cwd=ROOT)
    assert done.returncode == 0 and (tmp_path / "out" / "a.png").is_file()


@pytest.mark.parametrize("name", ["-dash.jpg", "--dash.jpg", "-h.jpg", "-.png"])
def test_a_photo_whose_name_begins_with_a_dash(run, model, tmp_path, name):
    save_photo(tmp_path / name)
    code, out, err = run("--formats", "glb", name)
    assert (code, err) == (0, "") and f"./{name}" in out and model.finds == 1


@pytest.mark.parametrize("name", ["-none.jpg", "--none.heic", "-.png"])
def test_a_missing_photo_whose_name_begins_with_a_dash(run, name):
    code, _, err = run("--formats", "glb", name)
    assert code == 2 and err == f"./{name}: There is no file './{name}'; check the path.\n"


@pytest.mark.parametrize("option", ["-x", "--form", "-o.5"])
def test_a_mistyped_option_is_called_one(run, tmp_path, option):
    save_photo(tmp_path / "a.jpg")
    code, _, err = run("a.jpg", option)
    assert code == 2 and "There is no file" not in err


@pytest.mark.parametrize("odd", ["a\nb", "a\r\x1b[2Jb", "a\u2028b\x85"])
def test_a_name_never_breaks_a_line(run, tmp_path, odd):
    save_photo(tmp_path / f"{odd}.jpg")
    code, out, err = run(f"{odd}.jpg", f"{odd}-none.jpg", "--formats", "png")
    shown = odd.encode("unicode_escape").decode()
    assert code == 2 and len(out.splitlines()) == len(err.splitlines()) == 1
    assert out.startswith(f"{shown}.jpg: ") and err.startswith(f"{shown}-none.jpg: ")
    assert json.loads(run(f"{odd}.jpg", "--formats", "png", "--json")[1])["photo"] == f"{odd}.jpg"


def test_a_link_that_leads_back_to_itself(run, tmp_path):
    (tmp_path / "ring.jpg").symlink_to("ring.jpg")
    save_photo(tmp_path / "a.jpg")
    code, out, err = run("ring.jpg", "a.jpg")
    assert code == 2 and "leads back to itself" in err and "a.png" in out


def test_a_file_called_like_an_option_is_none(run, tmp_path):
    os.rename(save_photo(tmp_path / "a.jpg"), tmp_path / "--json")
    save_photo(tmp_path / "b.jpg")
    code, out, _ = run("b.jpg", "--json", "--formats", "png")
    assert code == 0 and len(out.splitlines()) == 1 and json.loads(out)["photo"] == "b.jpg"


needs_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no device that is always full")


@needs_full
@pytest.mark.parametrize("arguments", [["--json"], []])
def test_standard_output_that_takes_no_more(tmp_path, arguments):
    photos = [save_photo(tmp_path / f"{name}.png") for name in "ab"]
    command = [sys.executable, "-c", CALL, str(STAND_IN), *photos, "--out", str(tmp_path / "out"), "--formats", "png"]
    with open("/dev/full", "w") as full:
        done = subprocess.run([*command, *arguments], cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True)
    said = "hrn-opt: Cannot write to standard output (no space left on device); send it elsewhere.\n"
    assert (done.returncode, done.stderr) == (1, said)
    assert sorted(path.name for path in (tmp_path / "out").glob("*.png")) == ["a.png", "b.png"]


@needs_full
def test_standard_error_that_takes_no_more(tmp_path):
    photos = [str(tmp_path / "none.png"), save_photo(tmp_path / "a.png")]
    command = [sys.executable, "-c", CALL, str(STAND_IN), *photos, "--out", str(tmp_path / "out"), "--formats", "png"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=full)
    assert done.returncode == 2 and b"a.png" in done.stdout and (tmp_path / "out" / "a.png").is_file()


@needs_full
def test_a_password_s_line_that_cannot_be_written():
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "hrn_opt", "hash-password", "ada"],
            cwd=ROOT,
            input=b"a long pass phrase\n",
            stdout=full,
            stderr=subprocess.PIPE,
        )
    assert done.returncode == 1 and done.stderr.startswith(b"hrn-opt: Cannot write") and done.stderr.count(b"\n") == 1
