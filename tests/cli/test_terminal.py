"""The command line at a terminal: progress, interrupts, names that cannot be shown."""

import os
import signal
import subprocess
import sys

from hrn_opt.cli.make import main
from tests.cli import stand_in
from tests.cli.stand_in import ROOT, FakeModel, names, save_photo


class Terminal:
    def __init__(self):
        self.shown = ""

    def write(self, text):
        self.shown += text

    def flush(self):
        pass

    def isatty(self):
        return True


def test_progress_is_shown_on_a_terminal_and_wiped(run, tmp_path, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    photo = save_photo(tmp_path / "me.png")
    main([photo, "--out", str(tmp_path / "out")], load=lambda name, **options: FakeModel())
    assert "[" + "#" * 15 + " " * 15 + "] me.png, face 1 of 1: shape" in terminal.shown
    assert terminal.shown.endswith("\r\x1b[K")


def test_ctrl_c_leaves_whole_files_only(model, tmp_path, capsys):
    real = model.stream

    def stream(photo, face=0, **options):
        events = real(photo, face, **options)
        yield next(events)
        if face == 1:
            raise KeyboardInterrupt
        yield from events

    model.stream = stream
    photo = save_photo(tmp_path / "me.png", faces=3)
    code = main([photo, "--out", str(tmp_path / "out"), "--face", "all"], load=lambda name, **options: model)
    assert code == 130 and "Traceback" not in capsys.readouterr().err
    whole = [f"me-face1.{ending}" for ending in ("glb", "mtl", "obj", "png")]
    assert names(tmp_path / "out") == [*whole, "me.report.json"]


INTERRUPTED = """
import sys, time
from hrn_opt.cli.make import main
def load(name, **options):
    print("loading", flush=True)
    time.sleep(600)
sys.exit(main([sys.argv[1], "--out", sys.argv[2]], load=load))
"""


def test_a_real_interrupt_signal_exits_130(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, save_photo(tmp_path / "me.png"), str(tmp_path / "out")],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a background shell hands on SIG_IGN
    )
    assert process.stdout.readline() == "loading\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130 and err == "" and not (tmp_path / "out").exists()


def test_a_name_that_the_terminal_cannot_show(model, tmp_path):
    photo = os.fsencode(save_photo(tmp_path / "me.png"))
    odd = photo.replace(b"me.png", b"m\xff\xc3\xa9.png")
    os.rename(photo, odd)
    code = (
        "import runpy, sys; from hrn_opt.cli.make import main\n"
        f"FakeModel = runpy.run_path({stand_in.__file__!r})['FakeModel']\n"
        "sys.exit(main(sys.argv[1:], load=lambda name, **options: FakeModel()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, odd, b"--out", os.fsencode(tmp_path / "out"), b"--formats", b"png"],
        cwd=ROOT,
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    assert done.returncode == 0, done.stderr
    assert names(tmp_path / "out") == ["mé.png", "mé.report.json"]
