"""The package as users get it: a wheel, installed into an empty environment, and run outside the repository."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# What the wheel is made of. Copied first: a build in place would leave folders in the repository.
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "NOTICE", "hrn_opt")
DOWNLOADS_WITHIN_S = 1500  # torch alone may have gigabytes
STARTS_WITHIN_S = 90  # two busy cores and cold files

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2 * DOWNLOADS_WITHIN_S)]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    (folder / "source").mkdir()
    for name in SOURCES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, folder / "source" / name)
    install(sys.executable, "wheel", "--no-deps", "--wheel-dir", folder, folder / "source")
    (made,) = folder.glob("*.whl")
    return made


class Installed:
    """An environment with the wheel and the extras that were asked for, run from an empty folder."""

    def __init__(self, folder: Path, wheel: Path):
        self._scripts, self._wheel, self.folder = folder / "environment" / "bin", wheel, folder / "empty"
        self.folder.mkdir()
        subprocess.run([sys.executable, "-m", "venv", folder / "environment"], check=True, timeout=120)
        self.environment = {
            key: value for key, value in os.environ.items() if not key.startswith(("HRN_OPT_", "PYTHON"))
        }
        self.environment |= {"HRN_OPT_HOME": str(folder / "home"), "TMPDIR": str(folder)}

    def add(self, extras: str = "") -> None:
        index = os.environ.get("TORCH_INDEX_URL")
        options = ["--extra-index-url", index] if index else []
        pins = ["-c", ROOT / "constraints.txt"]
        install(self._scripts / "python", "install", *options, *pins, f"hrn-opt{extras} @ {self._wheel.as_uri()}")

    def command(self, *arguments) -> list[str]:
        return [str(self._scripts / "hrn-opt"), *map(str, arguments)]

    def run(self, *arguments) -> subprocess.CompletedProcess:
        return subprocess.run(
            self.command(*arguments), cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=300
        )


def install(python, *arguments) -> None:
    command = [python, "-m", "pip", "--disable-pip-version-check", "--quiet", *arguments]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=DOWNLOADS_WITHIN_S)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def core(wheel, tmp_path_factory) -> Installed:
    """The package without any extra."""
    made = Installed(tmp_path_factory.mktemp("installed"), wheel)
    made.add()
    return made


def test_the_wheel_holds_the_package_and_nothing_else(wheel):
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    files = {path.relative_to(ROOT) for path in (ROOT / "hrn_opt").rglob("*") if path.is_file()}
    assert names == {path.as_posix() for path in files if path.parent.name != "__pycache__"}


def test_a_face_without_any_extra(core, example_photo):
    done = core.run("make", example_photo.resolve(), "--out", "faces", "--texture-size", "512", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["model"] == "builtin"
    made = {path.name for path in (core.folder / "faces").iterdir()}
    assert made == {f"astronaut.{ending}" for ending in ("glb", "mtl", "obj", "png", "report.json")}


def test_the_doctor_says_what_is_optional(core):
    done = core.run("doctor", "--json")
    report = json.loads(done.stdout)
    assert done.returncode == 0 and report["ready"]
    missing = {check["name"]: check["remedy"] for check in report["checks"] if not check["ok"]}
    assert missing["gradio"] == "pip install 'hrn-opt[web]' brings it."
    web, hrn = {"gradio", "fastapi", "uvicorn", "itsdangerous", "prometheus-client"}, {"accelerate", "modelscope"}
    assert set(missing) == web | hrn | {"modelscope-hub"}


@pytest.mark.parametrize(("command", "extra"), [("serve", "web"), ("fetch", "hrn")])
def test_what_needs_an_extra_says_so(core, command, extra):
    done = core.run(command)
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and f"pip install 'hrn-opt[{extra}]'" in done.stderr


def test_the_page_is_served(core, example_photo):
    """The last test of the file: it adds the extra that the others do without."""
    core.add("[web]")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{probe.getsockname()[1]}"
    command = core.command("serve", "--port", address.rpartition(":")[2])
    log = core.folder.with_name("log")
    with log.open("w") as file:
        server = subprocess.Popen(command, cwd=core.folder, env=core.environment, stdout=file, stderr=file)
    try:
        until = time.monotonic() + STARTS_WITHIN_S
        while answer(address + "/healthz") is None:
            assert server.poll() is None and time.monotonic() < until, log.read_text()
            time.sleep(0.2)
        page = json.loads(answer(address + "/config"))
        examples = [part["props"] for part in page["components"] if part["type"] == "dataset"]
        photo = examples[0]["samples"][0][0]
        assert answer(f"{address}/gradio_api/file={photo['path']}") == example_photo.read_bytes()
    finally:
        server.terminate()
        server.wait(30)
    assert f"Serving on {address}" in log.read_text()


def answer(address: str) -> bytes | None:
    """What is answered; None while nobody does."""
    try:
        with urllib.request.urlopen(address, timeout=60) as response:
            return response.read()
    except (urllib.error.URLError, ConnectionError):
        return None
