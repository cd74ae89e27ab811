"""A container engine for the tests: Podman with a store of its own where root may have one, else Docker or Podman.

Where nothing but Debian packages and Python packages can be had, no registry gives the base image. Root's Podman
therefore stands one in that is made of Debian packages: Debian's own Python of the same version, with pip.
"""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

ROOT = Path(__file__).parents[2]
BASE = "docker.io/library/python:3.11-slim"
IMAGE = "localhost/hrn-opt-tested"
# crun refuses hybrid control groups; a process without CAP_SYS_RESOURCE may only lower limits; there may be no systemd.
_PODMAN_SETTINGS = """
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
[network]
network_backend = "netavark"
[containers]
default_ulimits = ["nofile=1024:4096", "nproc=4096:4096"]
"""
# Debian marks its Python as managed by apt alone, which python:3.11-slim does not.
_LIKE_THE_BASE = 'rm -f "$1"/usr/lib/python3*/EXTERNALLY-MANAGED; ln -s python3 "$1/usr/bin/python"'
_PIP_OPTIONS = ("cert", "find-links", "index-url", "extra-index-url", "trusted-host")


@dataclass(frozen=True)
class Engine:
    """A program that builds and runs images.

    command: the program, with the options that choose its store.
    settings: environment variables that it needs.
    """

    command: tuple[str, ...]
    settings: dict[str, str]

    @property
    def is_podman(self) -> bool:
        return Path(self.command[0]).name == "podman"

    def __call__(self, *arguments: object, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [*self.command, *map(str, arguments)], env={**os.environ, **self.settings}, capture_output=True, text=True
        )
        assert done.returncode == 0 or not check, f"{arguments[0]}: {done.stderr[-3000:]}"
        return done


@contextmanager
def usable_engine(folder: Path) -> Iterator[Engine]:
    """An engine with the base image; nothing that it made stays. Skips the tests where this system has none.

    folder: empty, for a store of its own.
    """
    if os.geteuid() == 0 and all(map(shutil.which, ("podman", "runc", "mmdebstrap"))):
        yield from _own_store(folder)
        return
    for name in ("docker", "podman"):
        engine = Engine((name,), {})
        if shutil.which(name) and engine("info", check=False).returncode == 0:
            if (pulled := engine("pull", BASE, check=False)).returncode:
                pytest.skip(f"this system gets no base image: {_last_line(pulled.stderr)}")
            try:
                yield engine
            finally:
                engine("rmi", "-f", IMAGE, check=False)
            return
    pytest.skip("this system has no container engine that works: Docker, or Podman (as root with runc and mmdebstrap)")


def _own_store(folder: Path) -> Iterator[Engine]:
    (folder / "containers.conf").write_text(_PODMAN_SETTINGS)
    store = ("--root", str(folder / "store"), "--runroot", str(folder / "run"))
    engine = Engine(("podman", *store), {"CONTAINERS_CONF": str(folder / "containers.conf")})
    try:
        _import_base(engine, folder / "base.tar")
        if (tried := engine("run", "--rm", "--memory", "1g", BASE, "true", check=False)).returncode:
            pytest.skip(f"this system runs no containers: {_last_line(tried.stderr)}")
        yield engine
    finally:  # not by "system reset", which also takes what other stores on the machine hold
        engine("rm", "-fa", "-t", "0", check=False)
        engine("rmi", "-fa", check=False)
        engine("volume", "prune", "-f", check=False)
        subprocess.run(["umount", folder / "store" / "overlay"], capture_output=True)
        shutil.rmtree(folder, ignore_errors=True)


def _import_base(engine: Engine, archive: Path) -> None:
    options = (
        *("--quiet", "--variant=minbase", "--include=ca-certificates,python3,python3-pip"),
        *('--aptopt=APT::Install-Recommends "false"', "--dpkgopt=path-exclude=/usr/share/doc/*"),
        *("--dpkgopt=path-exclude=/usr/share/locale/*", f"--customize-hook={_LIKE_THE_BASE}"),
    )
    made = subprocess.run(["mmdebstrap", *options, "bookworm", archive], capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"this system cannot make a base image: {_last_line(made.stderr)}")
    engine("import", "-q", archive, BASE)
    archive.unlink()


def build(engine: Engine, folder: Path, context: Path = ROOT) -> None:
    """IMAGE from the unchanged Dockerfile of `context`, with this machine's pip settings during the build alone."""
    options = ["--build-arg", f"TORCH_INDEX_URL={os.environ.get('TORCH_INDEX_URL', '')}"]
    if engine.is_podman:  # Docker's builder mounts nothing; its format alone keeps HEALTHCHECK
        options += ["--format", "docker", "--network", "host", "--ulimit", "nofile=1024:4096", "--pull-never"]
        options += [part for mount in _pip_mounts(folder) for part in ("-v", mount)]
    engine("build", "-q", *options, "-t", IMAGE, context)


def _pip_mounts(folder: Path) -> Sequence[str]:
    """A pip.conf with this machine's indexes and certificates, and the folders that it names."""
    listed = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True).stdout
    options = {}
    for line in listed.splitlines():
        name, _, value = line.partition("=")
        if (option := name.rpartition(".")[2]) in _PIP_OPTIONS:
            options[option] = str(ast.literal_eval(value))
    (folder / "pip.conf").write_text("\n".join(["[global]", *(f"{key} = {value}" for key, value in options.items())]))
    words = " ".join(options.values()).split()
    paths = {Path(urlsplit(word).path) for word in words if word.startswith(("/", "file:"))}
    # An index's links may lead to a folder beside it.
    named = {str(path if path.is_file() else path.parent) for path in paths if path.exists()}
    return [f"{folder / 'pip.conf'}:/etc/pip.conf:ro", *(f"{path}:{path}:ro" for path in sorted(named))]


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no reason given"])[-1]
