"""`hrn-opt COMMAND`: every command answers for itself, and says what to install where a package is missing."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import hrn_opt
from hrn_opt.cli import COMMANDS, main

ROOT = Path(__file__).parents[1]


def answer(capsys, *arguments):
    """(exit code, stdout, stderr) of one call."""
    try:
        code = main(arguments)
    except SystemExit as stopped:
        code = stopped.code
    printed = capsys.readouterr()
    assert "Traceback" not in printed.err
    return code, printed.out, printed.err


def test_help_names_every_command(capsys):
    code, out, _ = answer(capsys, "--help")
    assert code == 0 and all(f"\n    {name}" in out for name in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_its_own_help(capsys, command):
    code, out, _ = answer(capsys, command, "--help")
    assert code == 0 and out.startswith(f"usage: hrn-opt {command} ")


@pytest.mark.parametrize("arguments", [[], ["--prot"], ["make"], ["serve", "--prot", "1"]])
def test_what_is_no_call_exits_2(capsys, arguments):
    code, out, err = answer(capsys, *arguments)
    assert code == 2 and out == "" and err.startswith("usage: ")


@pytest.mark.parametrize(("word", "hint"), [("me.jpg", ""), ("test", "needs a clone"), ("bench", "needs a clone")])
def test_an_unknown_command_is_one_sentence_that_names_the_known_ones(capsys, word, hint):
    code, out, err = answer(capsys, word, "--fast")
    assert (code, out, err.count("\n")) == (2, "", 1) and f'no command "{word}"' in err and hint in err
    assert all(name in err for name in COMMANDS)


def test_version(capsys):
    assert answer(capsys, "--version")[:2] == (0, f"hrn-opt {hrn_opt.__version__}\n")


WITHOUT = "import sys; sys.modules[sys.argv[1]] = None; from hrn_opt.cli import main; sys.exit(main(sys.argv[2:]))"


@pytest.mark.parametrize(("command", "package", "extra"), [("serve", "gradio", "web"), ("fetch", "modelscope", "hrn")])
def test_a_missing_extra_is_one_sentence(tmp_path, command, package, extra):
    arguments = ["--to", str(tmp_path)] if command == "fetch" else ["--port", "1"]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, package, command, *arguments], cwd=ROOT, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert done.stderr.startswith("hrn-opt: ") and f"pip install 'hrn-opt[{extra}]'" in done.stderr


@pytest.mark.parametrize(("program", "remedy"), [("./start.sh", "./start.sh"), ("hrn-opt", "pip install hrn-opt")])
def test_messages_name_the_program_as_it_was_called(program, remedy):
    """The doctor of an interpreter without any package, as start.sh calls it and as the installed package does."""
    environment = {**os.environ, "HRN_OPT_PROGRAM": program, "HRN_OPT_HOME": "/nowhere"}
    command = [sys.executable, "-S", "-m", "hrn_opt", "doctor", "--json"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    remedies = {check["name"]: check["remedy"] for check in json.loads(done.stdout)["checks"]}
    assert remedies["HRN model"] == f"{program} fetch gets it."
    assert remedies["numpy"] == f"{remedy} brings it."


def test_only_one_place_says_how_the_program_is_called():
    """A message that named ./start.sh would be wrong where the package was installed with pip."""
    package = Path(hrn_opt.__file__).parent
    naming = {path.name for path in package.rglob("*.py") if "./start.sh" in path.read_text(encoding="utf-8")}
    assert naming == {"program.py"}


def test_python_m_names_itself():
    done = subprocess.run([sys.executable, "-m", "hrn_opt", "make"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.startswith("usage: python -m hrn_opt make ")
