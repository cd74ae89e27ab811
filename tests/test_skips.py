"""In CI a test that is skipped, because something is not installed, counts as failed."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = """
import pytest

def test_lacking():
    pytest.importorskip("no_such_package")

@pytest.mark.skipif(True, reason="no CUDA device")
def test_no_gpu():
    pass

@pytest.mark.xfail(reason="known")
def test_known():
    assert False
"""


@pytest.mark.parametrize(
    ("ci", "code", "ending"),
    [
        ("true", 1, "1 failed, 1 skipped, 1 xfailed, 1 error"),
        ("", 0, "3 skipped, 1 xfailed"),
    ],
)
def test_skips_in_ci_and_elsewhere(tmp_path, ci, code, ending):
    shutil.copy(Path(__file__).with_name("conftest.py"), tmp_path)
    (tmp_path / "test_some.py").write_text(TESTS)
    (tmp_path / "test_whole.py").write_text('import pytest; pytest.importorskip("no_such_package")')
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--continue-on-collection-errors", "."]
    ended = subprocess.run(command, cwd=tmp_path, env={**os.environ, "CI": ci}, capture_output=True, text=True)
    assert (ended.returncode, ending in ended.stdout) == (code, True), ended.stdout
