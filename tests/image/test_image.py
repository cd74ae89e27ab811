"""The image as users get it: built from the unchanged Dockerfile, run as locked as README says, tried and stopped."""

import json
import shutil
import socket
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image

from hrn_opt.cli.termination import EXIT_TERMINATED
from tests.image.engine import IMAGE, ROOT, Engine, build, usable_engine
from tests.image.page import await_readiness, glb_of

MOST_CPU_IMAGE_BYTES = 1_250_000_000
STOPS_WITHIN_S = 8.0  # engines kill after ten; 0.3 to 1.4 s measured on two free cores, 4.2 s at a load of 7
STARTS_WITHIN_S = 120  # two busy cores and cold files
PACK_FOLDER = "/home/hrn/.cache/hrn_opt"
LOCKED = ("--read-only", "--tmpfs=/tmp", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--memory=1g")
PRIVATE = ("me.jpg", ".env", "users.txt", "hrn_opt/.env", "hrn_opt/web/me.jpg", "examples/me.jpg")
BUILT_FROM = (
    "Dockerfile",
    ".dockerignore",
    "requirements.txt",
    "constraints.txt",
    "pyproject.toml",
    "LICENSE",
    "NOTICE",
)
BUILT_FROM += ("README.md", "hrn_opt", "examples")

pytestmark = [pytest.mark.image, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def engine():
    """The engine, with the image built from a copy of the sources in which private files lie about."""
    folder = Path(tempfile.mkdtemp(prefix="hrn_image_"))  # engines' sockets need a short path
    try:
        (folder / "own").mkdir()
        (folder / "sources").mkdir()
        with usable_engine(folder / "own") as engine:
            for name in BUILT_FROM:
                copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
                copy(ROOT / name, folder / "sources" / name)
            for name in PRIVATE:
                (folder / "sources" / name).write_text("private")
            build(engine, folder, folder / "sources")
            yield engine
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def container(engine: Engine, *options: str, command: tuple[str, ...] = ()):
    """The name of a container that runs; removed at the end."""
    name = engine("run", "-d", *locked(engine), *options, IMAGE, *command).stdout.split()[-1]
    try:
        yield name
    except AssertionError:
        print(engine("logs", name, check=False).stderr[-3000:])
        raise
    finally:
        engine("rm", "-f", name, check=False)


def locked(engine: Engine) -> tuple[str, ...]:
    return (*LOCKED, "--read-only-tmpfs=false") if engine.is_podman else LOCKED  # Podman would add writable folders


def run(engine: Engine, *command: str, options: tuple[str, ...] = (), check: bool = True):
    return engine("run", "--rm", *locked(engine), *options, IMAGE, *command, check=check)


def inspected(engine: Engine, name: str, what: str) -> str:
    """A value of a container, or of an image, as the engine's template language names it."""
    return engine("inspect", "--format", what, name).stdout.strip()


@contextmanager
def page(engine: Engine, *options: str, served_port: int = 8080, command: tuple[str, ...] = ()):
    """The name of a container that serves the page, and the page's host and port here; it takes photos."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = probe.getsockname()
    publish = f"127.0.0.1:{address[1]}:{served_port}"
    with container(engine, "-p", publish, "-e", "HRN_OPT_PUBLIC=1", *options, command=command) as name:
        await_readiness(address, STARTS_WITHIN_S, lambda: inspected(engine, name, "{{.State.Running}}") == "true")
        yield name, address


def is_healthy(engine: Engine, name: str, *options: str) -> bool:
    """By the image's own check, called by hand: Podman without systemd does not call it."""
    kind, *check = json.loads(inspected(engine, name, "{{json .Config.Healthcheck.Test}}"))
    assert kind == "CMD"
    return engine("exec", *options, name, *check, check=False).returncode == 0


def stopped(engine: Engine, name: str) -> tuple[int, float]:
    """The exit code of a container that is told to stop, and the seconds that it took."""
    start = time.monotonic()
    engine("stop", "-t", "20", name)
    seconds = time.monotonic() - start
    print(f"stopped within {seconds:.1f} s")
    return int(inspected(engine, name, "{{.State.ExitCode}}")), seconds


def test_nothing_private_gets_in_and_it_says_what_it_is(engine):
    listed = engine("run", "--rm", "--entrypoint=find", IMAGE, "/source", "/home/hrn", "-type", "f").stdout.split()
    assert "/source/hrn_opt/web/page/astronaut.jpg" in listed
    assert not [path for path in listed if path.endswith(("me.jpg", "env", "users.txt"))]
    labels = json.loads(inspected(engine, IMAGE, "{{json .Config.Labels}}"))
    assert labels["org.opencontainers.image.title"] == "hrn-opt"


def test_size(engine):
    asked = ("-c", "import torch; print(torch.version.cuda)")
    if engine("run", "--rm", "--entrypoint=python", IMAGE, *asked).stdout.strip() != "None":
        pytest.skip("torch came with CUDA: name PyTorch's CPU index in TORCH_INDEX_URL")
    size_bytes = int(inspected(engine, IMAGE, "{{.Size}}"))
    print(f"size: {size_bytes / 1e9:.2f} GB")
    assert size_bytes <= MOST_CPU_IMAGE_BYTES


def test_a_photo_becomes_a_model_and_it_stops_at_once(engine, example_photo):
    with page(engine) as (name, address):
        assert is_healthy(engine, name)
        assert is_healthy(engine, name, "-e", "http_proxy=http://127.0.0.1:9")  # a proxy that is not there
        assert glb_of(address, example_photo)[:4] == b"glTF"
        who = engine("exec", name, "sh", "-c", "id -u; touch /x /home/hrn/x /source/x 2>/dev/null || echo refused")
        assert who.stdout.split() == ["1000", "refused"]
        code, seconds = stopped(engine, name)
        assert code == 0 and seconds < STOPS_WITHIN_S


def most_memory_bytes(engine: Engine, name: str) -> int:
    """What the container's processes and its /tmp took at most."""
    files = "/sys/fs/cgroup/memory.peak /sys/fs/cgroup/memory/memory.max_usage_in_bytes"
    return int(engine("exec", name, "sh", "-c", f"cat {files} 2>/dev/null", check=False).stdout)


@pytest.mark.parametrize("cpus", [1, 2])
def test_photos_of_phones_at_once_fit_the_memory(engine, example_photo, tmp_path, cpus):
    """A model process for each CPU would not fit one GB beside the server, so there are as many as do."""
    photo = tmp_path / "phone.jpg"
    Image.open(example_photo).resize((3500, 3500)).save(photo, quality=90)  # 12 megapixels
    with page(engine, f"--cpus={cpus}") as (name, address):
        with ThreadPoolExecutor(6) as programs:
            glbs = list(programs.map(lambda _: glb_of(address, photo, 4096), range(6)))
        assert all(glb[:4] == b"glTF" for glb in glbs)
        print(f"{cpus} CPUs, 1 GB: {most_memory_bytes(engine, name) / 1e6:.0f} MB at most")
        logged = engine("logs", name)
        assert "is replaced" not in logged.stdout + logged.stderr  # none has been killed


def test_another_user_and_another_port(engine):
    with page(engine, "--user=12345:0", served_port=9000, command=("serve", "--port", "9000")) as (name, _):
        assert is_healthy(engine, name)
        assert not is_healthy(engine, name, "-e", "HRN_OPT_HOST=192.0.2.1")  # so it is asked, and the answer counts
        code, seconds = stopped(engine, name)
        assert code == 0 and seconds < STOPS_WITHIN_S


@pytest.mark.parametrize("running_s", [0.3, 1.0])
def test_it_stops_while_it_starts(engine, running_s):
    with container(engine, "-e", "HRN_OPT_PUBLIC=1") as name:
        time.sleep(running_s)
        code, seconds = stopped(engine, name)
        assert code in (0, EXIT_TERMINATED) and seconds < STOPS_WITHIN_S


def test_it_stops_while_it_fetches(engine):
    with socket.create_server(("127.0.0.1", 0)) as hub:  # takes the call and never answers
        hub.settimeout(STARTS_WITHIN_S / 2)
        command = ("fetch", "--from", f"http://127.0.0.1:{hub.getsockname()[1]}")
        with container(engine, "--network=host", "-v", f"fetched:{PACK_FOLDER}", command=command) as name:
            connection, _ = hub.accept()
            with connection:
                code, seconds = stopped(engine, name)
    engine("volume", "rm", "-f", "fetched")
    assert code == EXIT_TERMINATED and seconds < STOPS_WITHIN_S


@pytest.mark.parametrize("user", ["1000", "12345:0"])
def test_a_fresh_volume_is_writable(engine, user):
    options = ("--user", user, "-v", f"pack:{PACK_FOLDER}", "--entrypoint=sh")
    run(engine, "-c", 'mkdir "$HRN_OPT_HOME/published" && ls ~', options=options)
    engine("volume", "rm", "-f", "pack")


def test_the_doctor_sees_the_container_s_limits(engine):
    report = json.loads(run(engine, "doctor", "--json", options=("--cpus=1",)).stdout)
    found = {check["name"]: check["found"] for check in report["checks"]}
    assert report["ready"] and found["CPU"].startswith("1 threads")
    assert 0.5 < float(found["free memory"].split()[0]) <= 1.0


def test_what_it_has_not_is_one_sentence(engine):
    told = run(engine, "test", check=False)
    assert (told.returncode, told.stdout) == (2, "") and 'no command "test"' in told.stderr
    assert "Traceback" not in told.stderr
