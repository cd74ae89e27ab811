"""The doctor tells the truth about this machine, and still speaks on a bare one."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from hrn_opt import doctor
from hrn_opt.cli import main
from hrn_opt.doctor import Check

ROOT = Path(__file__).parent.parent


@pytest.fixture
def no_pack(tmp_path, monkeypatch):
    """The folder where HRN's packs would be."""
    monkeypatch.setenv("HRN_OPT_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_this_machine_is_ready(capsys, no_pack):
    assert main(["doctor"]) == 0
    printed = capsys.readouterr().out
    assert "missing" not in printed and printed.endswith("Ready.\n")


def test_json_says_the_same(capsys, no_pack):
    assert main(["doctor", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["ready"] is True
    assert {"Python", "torch", "GPU", "embedded model", "free disk"} <= {check["name"] for check in report["checks"]}


def test_every_package_is_pinned():
    pins = doctor.read_pins()
    assert set(doctor.PACKAGES) <= set(pins) and pins["torch"] == "2.13.0"


def test_a_missing_package_has_a_remedy():
    check = doctor.check_package("no-such-package-here", {})
    assert not check.ok and check.needed and "pip install hrn-opt" in check.remedy


@pytest.mark.parametrize(("package", "extra"), [("gradio", "web"), ("modelscope", "hrn")])
def test_what_an_extra_brings_may_lack(monkeypatch, package, extra):
    monkeypatch.setitem(doctor.PACKAGES, "no-such-package-here", doctor.PACKAGES[package])
    check = doctor.check_package("no-such-package-here", {})
    assert not check.ok and not check.needed and f"pip install 'hrn-opt[{extra}]'" in check.remedy


def test_another_version_is_said():
    check = doctor.check_package("pillow", {"pillow": "1.0"})
    assert check.ok and "tested with 1.0" in check.found


def test_little_memory_is_missing(monkeypatch):
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=500 << 20))
    assert not doctor.check_memory().ok
    monkeypatch.setitem(sys.modules, "psutil", None)  # as where it is not installed
    assert doctor.check_memory().ok


def test_only_needed_checks_decide():
    optional = Check("GPU", False, "none", "buy one", needed=False)
    needed = Check("torch", False, "none", "./start.sh")
    assert doctor.can_run([optional]) and not doctor.can_run([optional, needed])
    assert "→ ./start.sh" in doctor.report_text([optional, needed])


def test_a_missing_thing_without_remedy_is_our_bug():
    with pytest.raises(ValueError, match="remedy"):
        Check("x", False, "none")


def test_speaks_without_torch(tmp_path):
    """In an interpreter without any package: exit 1, remedies, no traceback."""
    environment = {key: value for key, value in os.environ.items() if key not in ("VIRTUAL_ENV", "CONDA_PREFIX")}
    command = [sys.executable, "-S", "-m", "hrn_opt", "doctor", "--json"]
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1, ended.stderr
    assert ended.stderr == ""
    missing = {check["name"] for check in json.loads(ended.stdout)["checks"] if not check["ok"]}
    assert {"torch", "gradio", "embedded model"} <= missing


def test_without_hrn_it_says_how_to_get_it(no_pack):
    check = doctor.check_hrn()
    assert check.ok and not check.needed and "optional" in check.found and "hrn-opt fetch" in check.remedy


def test_it_looks_where_fetch_writes(monkeypatch, tmp_path):
    from hrn_opt.hrn.pack import home

    monkeypatch.delenv(home.HOME_VARIABLE, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(doctor, "_check_prepared", lambda folder: folder)
    made = home.default_folder() / home.PREPARED
    made.mkdir(parents=True)
    (made / home.MANIFEST).touch()
    assert doctor.check_hrn() == made


@pytest.mark.parametrize(("folder", "state"), [("published", "not prepared"), ("published.partial", "fetched in part")])
def test_an_unfinished_fetch_is_said(no_pack, folder, state):
    (no_pack / folder).mkdir(parents=True)
    check = doctor.check_hrn()
    assert not check.ok and not check.needed and state in check.found and "hrn-opt fetch" in check.remedy


def test_a_prepared_pack(no_pack, prepared_pack):
    no_pack.mkdir()
    (no_pack / "prepared").symlink_to(prepared_pack)
    check = doctor.check_hrn()
    assert check.ok and check.remedy == ""
    assert "finds faces" in check.found and check.found.endswith("skin mask: graph")


def test_a_pack_without_detectors_and_graph(no_pack, linked_pack):
    from hrn_opt.hrn.pack import published as pack
    from hrn_opt.hrn.pack.prepare import prepare

    for path in (pack.FAN_ARCHIVE, pack.MASK_GRAPH):
        (linked_pack / path).unlink()
    folder = prepare(linked_pack, no_pack / "prepared")
    check = doctor.check_hrn()
    assert check.ok and "the embedded model finds the landmarks" in check.found
    assert check.found.endswith("skin mask: outline")
    assert check.remedy == ""
    (folder / "segment_face.onnx").touch()
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "onnxruntime", None)
        assert "onnxruntime" in doctor.check_hrn().remedy


@pytest.mark.parametrize("name", ["hrn.safetensors", "manifest.json", "segment_face.pb"])
def test_a_damaged_pack_is_no_pack_to_start_with(no_pack, prepared_pack, name):
    shutil.copytree(prepared_pack, no_pack / "prepared")
    os.truncate(no_pack / "prepared" / name, 100)
    check = doctor.check_hrn()
    assert not check.ok and check.needed and "hrn-opt fetch" in check.remedy
