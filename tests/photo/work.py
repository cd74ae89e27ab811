"""How much work a photo makes, told without a clock on the wall: what else the machine does must not count."""

import contextlib
import sys
import time
import tracemalloc
from pathlib import Path

import hrn_opt
from hrn_opt import errors
from hrn_opt.photo import open_photo

PACKAGE = str(Path(hrn_opt.__file__).parent)


def lines_run(call):
    """How many lines of the package run during a call; the same number on every machine."""
    count = 0

    def trace(frame, event, argument):
        nonlocal count
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None  # what pytest and the standard library do depends on what they have done before
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return count


def peak_bytes(call):
    """The most memory that Python's own allocators held for a call; NumPy's arrays count, Pillow's pixels do not."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def growth(of_size, size):
    """How many times the work of a file is that of a file half its size: 2 where it grows as the file, 4 as its square.

    Of this process alone, and the least of three: what else the machine does only adds. The millisecond keeps noise
    out where both are done at once.
    """
    return (_cpu_seconds(of_size(2 * size)) + 0.001) / (_cpu_seconds(of_size(size)) + 0.001)


def _cpu_seconds(content):
    taken = []
    for _ in range(3):
        start = time.process_time()
        with contextlib.suppress(errors.InputError):
            open_photo(content)
        taken.append(time.process_time() - start)
    return min(taken)
