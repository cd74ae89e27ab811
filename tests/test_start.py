"""start.sh: what it says when it cannot go on, and that an interrupted set-up is not taken for a finished one."""

import os
import shutil
import subprocess
import sys
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


def start(folder, *arguments, python=sys.executable, **environment):
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


def test_no_venv_when_told(clone):
    ended = start(clone, HRN_OPT_NO_VENV="1")
    assert ended.returncode == 0, ended.stderr
    assert not (clone / ".venv").exists() and ended.stdout.startswith("served")
