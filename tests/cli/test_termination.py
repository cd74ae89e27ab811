"""SIGTERM ends every command, from its first moments on, also where it is a container's first process."""

import signal
import subprocess
import sys

import pytest

from hrn_opt.cli.termination import EXIT_TERMINATED

# A command's work, which says that it has begun, and what it does when it is told to end.
WORK = """
import sys, threading, time
from hrn_opt.cli import main
import hrn_opt.cli.doctor

def work(arguments):
    print("begun", flush=True)
    {work}

hrn_opt.cli.doctor.main = work
sys.argv = ["hrn-opt", "doctor"]
sys.exit(main())
"""
PUTS_AWAY = """
    try:
        time.sleep(60)
    finally:
        print("put away", flush=True)
"""
IS_HELD_UP = """
    threading.Thread(target=time.sleep, args=(60,)).start()  # as a download that waits for the network
    time.sleep(60)
"""


@pytest.mark.parametrize(("work", "said"), [(PUTS_AWAY, "put away\n"), (IS_HELD_UP, "")], ids=["files", "threads"])
def test_it_puts_away_and_ends(work, said):
    command = [sys.executable, "-c", WORK.format(work=work.strip())]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "begun\n"
        process.send_signal(signal.SIGTERM)
        out, error = process.communicate(timeout=50)  # less than the thread takes
    assert (process.returncode, out, error) == (EXIT_TERMINATED, said, "")


def test_a_caller_s_own_handler_stays():
    from hrn_opt.cli import main

    before = signal.getsignal(signal.SIGTERM)
    assert main(["no such command"]) == 2
    assert signal.getsignal(signal.SIGTERM) is before
