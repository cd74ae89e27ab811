"""A server that may be killed, the processes that belong to it, and the photos that are sent to it."""

import io
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
from PIL import Image

from tests.browser.visits import GIVES_UP_AFTER_S, ROOT, STARTS_WITHIN_S, free_port

SMALL, LARGE = {"texture_size": "512", "format": "png"}, {"texture_size": "4096", "format": "zip"}


class House:
    """A server that has been started, perhaps not to its end. temporary: its TMPDIR."""

    def __init__(self, temporary, *flags, **variables):
        self.temporary, port = Path(temporary), free_port()
        self.address = f"http://127.0.0.1:{port}"
        self._log = Path(temporary).parent / f"{Path(temporary).name}-{port}.log"
        command = [sys.executable, "app.py", "--port", str(port), "--model", "builtin", *flags]
        environment = {**os.environ, "TMPDIR": str(temporary), **variables}
        with self._log.open("w") as log:
            # A session of its own: signals to its whole group, as a terminal sends them, must not meet the tests.
            self._process = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True
            )
        self.pid = self._process.pid
        self._family = set()

    @property
    def log(self):
        return self._log.read_text(errors="replace")

    def until_ready(self):
        """Until a model answers."""
        until(lambda: self.has_ended or self.asks("/readyz").get("status") == "ready", STARTS_WITHIN_S, self, 0.2)
        assert not self.has_ended, self.log
        return self

    def asks(self, path):
        """The JSON answer; {} when nobody answers."""
        try:
            return httpx.get(self.address + path, timeout=30).json()
        except httpx.HTTPError:
            return {}

    @property
    def jobs(self):
        return self.asks("/healthz").get("jobs")

    @property
    def has_ended(self):
        return self._process.poll() is not None

    def family(self):
        """The server and everything that it has started, also what outlives it."""
        for parent in [self.pid, *(process.pid for process in self._family)]:
            try:
                process = psutil.Process(parent)
                self._family |= {process, *process.children(recursive=True)}
            except psutil.NoSuchProcess:
                pass
        return {process for process in self._family if _lives(process)}

    def models(self):
        return [one for one in psutil.Process(self.pid).children() if _is(one, "multiprocessing.spawn")]

    def openers(self):
        return [one for model in self.models() for one in model.children() if _is(one, "multiprocessing.spawn")]

    def kill(self):
        """As the system does where memory runs out; the rest of the family has to notice by itself."""
        self.family()
        self._process.kill()
        self._process.wait()

    def signal(self, number=signal.SIGTERM):
        self.family()
        self._process.send_signal(number)

    def exit_code(self):
        return self._process.wait(GIVES_UP_AFTER_S)

    def until_nobody_lives(self):
        until(lambda: not self.family(), GIVES_UP_AFTER_S, self)

    def assert_ended_well(self, *codes):
        assert self.exit_code() in (codes or (0,)), self.log
        self.until_nobody_lives()
        assert not self.left(), "files were left"
        assert "Traceback" not in self.log and "ERROR" not in self.log, self.log

    def left(self):
        """What lies in its TMPDIR."""
        walked = os.walk(self.temporary)  # which passes over what goes meanwhile
        return sorted(Path(folder) / name for folder, folders, files in walked for name in (*folders, *files))

    def clear(self):
        for process in self.family():
            process.kill()
        self._process.wait()


@contextmanager
def house(temporary, *flags, **variables):
    """A started server; none of its processes is left however the block ends."""
    temporary.mkdir(exist_ok=True)
    one = House(temporary, *flags, **variables)
    try:
        yield one
    finally:
        one.clear()


def until(condition, within_s=GIVES_UP_AFTER_S, house=None, every_s=0.02):
    gives_up_at = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < gives_up_at, "it does not happen\n" + (house.log if house else "")
        time.sleep(every_s)


def photos_in(house):
    """What of visitors lies in its TMPDIR; the page's own example is there, too, in a folder named by a hash."""
    return [path for path in house.left() if path.is_file() and len(path.parent.name) != 64 and path.name != "lock"]


def post(address, photo, **options):
    """The answer to one photo as a program sends it. photo: (name, bytes)."""
    return httpx.post(f"{address}/api/v1/faces", files={"photo": photo}, data=options, timeout=GIVES_UP_AFTER_S)


@contextmanager
def events(address, photo, **options):
    """The events of one photo, as (name, data as text); those to come are read when asked for."""
    accept = {"Accept": "text/event-stream"}
    with (
        httpx.Client(timeout=GIVES_UP_AFTER_S) as client,
        client.stream(
            "POST", f"{address}/api/v1/faces", files={"photo": photo}, data=options, headers=accept
        ) as stream,
    ):
        yield _parsed(stream.iter_lines())


def _parsed(lines):
    name = ""
    for line in lines:
        key, _, value = line.partition(": ")
        if key == "event":
            name = value
        elif key == "data":
            yield name, value


def tinted(photo_path, number):
    """The photo in a colour of its own, as PNG bytes; `number` below 64 can be told from what is made of it."""
    with Image.open(photo_path) as photo:
        colour = tuple(64 * (number // 4**channel % 4) + 32 for channel in range(3))
        mixed = Image.blend(photo.convert("RGB"), Image.new("RGB", photo.size, colour), 0.25)
    made = io.BytesIO()
    mixed.save(made, "PNG", compress_level=1)
    return made.getvalue()


def _lives(process):
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _is(process, module):
    try:
        return any(module in part for part in process.cmdline())
    except psutil.Error:
        return False
