"""start.sh: what it says when it cannot go on, and that an interrupted set-up is not taken for a finished one."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TOOLS = ("bash", "dirname", "cat", "rm")


@pytest.fixture
def clone(tmp_path):
    """A folder with start.sh and requirements that need no network; app.py only says that it ran."""
    folder = tmp_path / "a clone"
    folder.mkdir()
    shutil.copy(ROOT / "start.sh", folder)
    (folder / "requirements.txt").write_text("# nothing to install\n")
    (folder / "app.py").write_text("import sys; print('served', sys.prefix, *sys.argv[1:])\n")
    return folder


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
    assert "no Python 3.10 or newer" in ended.stderr and "apt install python3" in ended.stderr


def test_first_start_makes_an_environment_and_the_second_reuses_it(clone):
    first, second = start(clone, "--port", "9000"), start(clone)
    assert first.returncode == 0, first.stderr
    assert first.stdout == f"served {clone / '.venv'} --port 9000\n"
    assert "installing" in first.stderr and "installing" not in second.stderr
    assert second.stdout == f"served {clone / '.venv'}\n"


def test_a_failed_install_is_tried_again(clone):
    (clone / "requirements.txt").write_text("hrn-opt-no-such-package==0\n")
    failed = start(clone, PIP_NO_INDEX="1")
    assert failed.returncode == 1 and "did not finish" in failed.stderr and "served" not in failed.stdout
    (clone / "requirements.txt").write_text("# nothing to install\n")
    assert start(clone).returncode == 0


COMMAND = "import sys, os; print(os.getcwd(), *sys.argv[1:])\n"


def test_fetch_takes_paths_from_where_it_was_called(clone, tmp_path):
    module = clone / "hrn_opt" / "__main__.py"
    module.parent.mkdir()
    module.write_text(COMMAND)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    ended = start(clone, "fetch", "--from", "my pack", "--to", "there", cwd=elsewhere)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == f"{elsewhere} fetch --from my pack --to there\n"
    assert (clone / ".venv" / "installed-run").is_file()


def test_what_must_come_alone_comes_without_its_needs(clone):
    with zipfile.ZipFile(clone / "lonely-1-py3-none-any.whl", "w") as wheel:
        about = "Metadata-Version: 2.1\nName: lonely\nVersion: 1\nRequires-Dist: hrn-opt-no-such-package\n"
        wheel.writestr("lonely-1.dist-info/METADATA", about)
        wheel.writestr("lonely-1.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr("lonely-1.dist-info/RECORD", "")
    for name in ("dev", "oracle", "oracle-nodeps"):
        (clone / f"requirements-{name}.txt").write_text("# nothing to install\n")
    (clone / "requirements-oracle.txt").write_text("./lonely-1-py3-none-any.whl\n")
    assert "did not finish" in start(clone, "test", PIP_NO_INDEX="1").stderr
    (clone / "requirements-oracle.txt").rename(clone / "requirements-oracle-nodeps.txt")
    (clone / "requirements-oracle.txt").write_text("# nothing to install\n")
    ended = start(clone, "test", PIP_NO_INDEX="1")
    assert "did not finish" not in ended.stderr and "No module named pytest" in ended.stderr
    assert (clone / ".venv" / "installed-test").is_file()


def test_no_venv_when_told(clone):
    ended = start(clone, HRN_OPT_NO_VENV="1")
    assert ended.returncode == 0, ended.stderr
    assert not (clone / ".venv").exists() and ended.stdout.startswith("served")
