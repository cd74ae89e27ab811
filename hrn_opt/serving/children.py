"""Processes of our own: they do not hear the signals that are for whoever started them, and never outlive it."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from multiprocessing import get_context, parent_process, resource_tracker
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from typing import Any

_NOT_FOR_CHILDREN = (signal.SIGINT, signal.SIGTERM)


def start_child(work: Callable[..., None], arguments: tuple[Any, ...], name: str) -> SpawnProcess:
    """A process that has been started and does the work.

    A terminal's Ctrl-C, and many a supervisor's SIGTERM, go to the whole group; the child must not be cut off by them.
    """
    # Python starts this helper with the first child, and lets signals through again right before that child begins.
    resource_tracker.ensure_running()
    # A fork would take the threads' locks with it.
    process = get_context("spawn").Process(target=work, args=arguments, name=name)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _NOT_FOR_CHILDREN)  # the child keeps what it begins with
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return process


def end_with_parent() -> None:
    """For a child, at its start: it ends as soon as whoever started it is gone, whatever it is doing then.

    A killed server tells nobody. A photo at work would be finished for no one, below a folder that the next server
    deletes meanwhile.
    """
    parent = parent_process()
    assert parent is not None, "only a child has one"
    threading.Thread(target=_end_after, args=(parent.sentinel,), name="hrn-opt-parent", daemon=True).start()


def end_at_once() -> None:
    """For a child whose work is done: taking torch apart would last half a second, and nothing comes of it."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(0)


def _end_after(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)
