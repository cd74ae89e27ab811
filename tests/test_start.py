"""start.sh: what it says when it cannot go on, and that an interrupted set-up is not taken for a finished one."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

tomllib = pytest.importorskip("tomllib" if sys.version_info >= (3, 11) else "tomli")

ROOT = Path(__file__).parent.parent
TOOLS = ("bash", "dirname", "cat", "rm")


@pytest.fixture
def clone(tmp_path):
    """A folder with start.sh and requirements that need no network; the package only says how it was called."""
    folder = tmp_path / "a clone"
    (folder / "hrn_opt").mkdir(parents=True)
    shutil.copy(ROOT / "start.sh", folder)
    (folder / "constraints.txt").touch()
    (folder / "hrn_opt" / "__main__.py").write_text(PACKAGE)
    require(folder)
    return folder


PACKAGE = """
import os, sys
print(os.environ["HRN_OPT_PROGRAM"], *sys.argv[1:], "with", sys.prefix, "in", os.getcwd())
"""
THERE_ALREADY = "pip"  # in every environment, so that nothing is downloaded


def require(folder, needed=THERE_ALREADY, **extras):
    """Writes pyproject.toml with one requirement, and one in each extra that is named."""
    lines = [f'[project]\ndependencies = ["{needed}"]\n[project.optional-dependencies]']
    for extra in ("web", "hrn", "dev", "oracle", "oracle-no-deps"):
        lines.append(f"{extra} = {[extras[extra]] if extra in extras else []}")
    (folder / "pyproject.toml").write_text("\n".join(lines))


def start(folder, *arguments, python=sys.executable, cwd=None, **environment):
    """Runs start.sh with little more on its PATH than it needs, outside of any environment."""
    tools = folder.parent / "tools"
    tools.mkdir(exist_ok=True)
    for name in TOOLS:
        if not (tools / name).exists():
            (tools / name).symlink_to(shutil.which(name))
    if python:
        environment["PYTHON"] = python
    environment.setdefault("HRN_OPT_NO_VENV", "0")  # the same whether or not the tests run in a container
    return subprocess.run(
        ["bash", str(folder / "start.sh"), *arguments],
        env={"PATH": str(tools), "HOME": os.environ.get("HOME", "/"), **environment},
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_unknown_command_shows_the_usage(clone):
    ended = start(clone, "frobnicate")
    assert ended.returncode == 2
    assert 'unknown command "frobnicate"' in ended.stderr and "Usage:" in ended.stderr


def test_help(clone):
    ended = start(clone, "--help")
    assert ended.returncode == 0 and "Usage:" in ended.stdout


def test_without_python_it_says_what_to_install(clone):
    ended = start(clone, python=None)
    assert ended.returncode == 1
    assert "no Python 3.11 or newer" in ended.stderr and "apt install python3" in ended.stderr


def test_first_start_makes_an_environment_and_the_second_reuses_it(clone):
    first, second = start(clone, "--port", "9000", cwd=clone), start(clone, cwd=clone)
    assert first.returncode == 0, first.stderr
    assert first.stdout == f"./start.sh serve --port 9000 with {clone / '.venv'} in {clone}\n"
    assert "installing" in first.stderr and "installing" not in second.stderr
    assert second.stdout == f"./start.sh serve with {clone / '.venv'} in {clone}\n"


def test_a_failed_install_is_tried_again(clone):
    require(clone, "hrn-opt-no-such-package")
    failed = start(clone, PIP_NO_INDEX="1")
    assert failed.returncode == 1 and "did not finish" in failed.stderr and failed.stdout == ""
    require(clone)
    assert start(clone).returncode == 0


def test_what_changes_no_requirement_installs_nothing(clone):
    assert "installing" in start(clone).stderr
    with (clone / "pyproject.toml").open("a") as file:
        file.write("\n[tool.ruff]\n")
    assert "installing" not in start(clone).stderr
    (clone / "constraints.txt").write_text("hrn-opt-no-such-package==1\n")
    assert "installing" in start(clone).stderr


def test_a_pin_decides_the_version(clone):
    (clone / "constraints.txt").write_text("pip==0.0.1\n")
    ended = start(clone, PIP_NO_INDEX="1")
    assert ended.returncode == 1 and "conflict" in ended.stderr


@pytest.mark.parametrize("command", ["run", "make", "fetch", "hash-password", "make-token"])
def test_commands_take_paths_from_where_they_were_called(clone, tmp_path, command):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    ended = start(clone, command, "--from", "my pack", cwd=elsewhere, HRN_OPT_NO_VENV="1")
    assert ended.returncode == 0, ended.stderr
    name = "serve" if command == "run" else command
    assert ended.stdout == f"./start.sh {name} --from my pack with {sys.prefix} in {elsewhere}\n"


def test_the_doctor_installs_nothing(clone):
    require(clone, "hrn-opt-no-such-package")
    ended = start(clone, "doctor", "--json", PIP_NO_INDEX="1")
    assert ended.returncode == 0 and ended.stdout.startswith("./start.sh doctor --json with ")
    assert not (clone / ".venv").exists()


def test_what_must_come_alone_comes_without_its_needs(clone):
    with zipfile.ZipFile(clone / "face_alignment-1-py3-none-any.whl", "w") as wheel:
        about = "Metadata-Version: 2.1\nName: face-alignment\nVersion: 1\nRequires-Dist: hrn-opt-no-such-package\n"
        wheel.writestr("face_alignment-1.dist-info/METADATA", about)
        kind = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        wheel.writestr("face_alignment-1.dist-info/WHEEL", kind)
        wheel.writestr("face_alignment-1.dist-info/RECORD", "")
    require(clone, **{"oracle-no-deps": "face-alignment>=1"})
    ended = start(clone, "test", PIP_NO_INDEX="1", PIP_FIND_LINKS=".")
    assert "did not finish" not in ended.stderr and "No module named pytest" in ended.stderr
    assert (clone / ".venv" / "installed-test").is_file()


def test_no_venv_when_told(clone):
    ended = start(clone, HRN_OPT_NO_VENV="1")
    assert ended.returncode == 0, ended.stderr
    assert not (clone / ".venv").exists() and "installing" not in ended.stderr


def test_an_active_environment_gets_what_it_lacks(clone):
    require(clone, "hrn-opt-no-such-package")
    ended = start(clone, VIRTUAL_ENV="somewhere", HRN_OPT_NO_VENV="", PIP_NO_INDEX="1")
    assert ended.returncode == 1 and "did not finish" in ended.stderr and not (clone / ".venv").exists()


def test_an_index_for_torch_is_added(clone):
    require(clone, "hrn-opt-no-such-package")
    ended = start(clone, TORCH_INDEX_URL="file:///no/such/index", PIP_NO_INDEX="", PIP_INDEX_URL="file:///none")
    assert ended.returncode == 1 and "/no/such/index" in ended.stderr


def test_requirements_name_what_pyproject_asks_for():
    """Names only: a version stands in constraints.txt, a range in pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    asked = [*project["dependencies"], *extras["web"], *extras["hrn"]]
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    names = [line for line in lines if not line.startswith(("#", "-"))]
    assert "-c constraints.txt" in lines and names == [re.match(r"[\w.-]+", need)[0] for need in asked]
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {line.partition("==")[0] for line in pins if not line.startswith("#")}
    every = [*project["dependencies"], *(need for needs in extras.values() for need in needs)]
    assert {re.match(r"[\w.-]+", need)[0] for need in every} <= pinned and "torch==2.13.0" in pins
