"""What this machine has, and what to do about what is missing.

Looks only; installs and loads nothing for good. Everything beyond the standard library is imported inside the check
that needs it, so that the doctor can still speak when torch is missing.
"""

from __future__ import annotations

import importlib
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from hrn_opt.machine import free_memory_bytes, usable_cpus
from hrn_opt.program import FETCH, install_command

OLDEST_PYTHON = (3, 11)
NEEDED_RAM_BYTES = 768 << 20  # one photo with the embedded model, page included: 498 MB measured in a container
NEEDED_DISK_BYTES = 200 << 20  # photos and results of some visitors
# Package → the extra of pyproject.toml that brings it; "" for those that everything needs.
PACKAGES = {
    **dict.fromkeys(("torch", "numpy", "pillow", "pillow-heif", "safetensors", "pygltflib", "psutil"), ""),
    **dict.fromkeys(("gradio", "fastapi", "uvicorn", "itsdangerous", "prometheus-client"), "web"),
    "accelerate": "hrn",
    "filelock": "hrn",
    "modelscope": "hrn",
    "modelscope-hub": "hrn",
}
_USED_BY = {"web": "the page", "hrn": "HRN"}
CONSTRAINTS = Path(__file__).parent.parent / "constraints.txt"


@dataclass(frozen=True)
class Check:
    """One finding. needed: the main job cannot run without it.

    remedy: what to do, or when ok what could be done.
    """

    name: str
    ok: bool
    found: str
    remedy: str = ""
    needed: bool = True

    def __post_init__(self) -> None:
        if not self.ok and not self.remedy:
            raise ValueError(f"{self.name} is missing, so it needs a remedy")


def check_python() -> Check:
    wanted = ".".join(map(str, OLDEST_PYTHON))
    remedy = f"Install Python {wanted} or newer (Debian, Ubuntu: sudo apt install python3 python3-venv)."
    return _check("Python", sys.version_info >= OLDEST_PYTHON, platform.python_version(), remedy)


def check_package(name: str, pins: dict[str, str]) -> Check:
    """Installed or not; another version than the pinned one is said, but is no fault."""
    try:
        found = version(name)
    except PackageNotFoundError:
        return _not_installed(name, PACKAGES.get(name, ""))
    pin = pins.get(name)
    return Check(name, True, found if pin in (None, found.split("+")[0]) else f"{found} (tested with {pin})")


def _not_installed(name: str, extra: str) -> Check:
    """What an extra brings is not needed by what else there is: photos to faces with the embedded model."""
    remedy = f"{install_command(extra)} brings it"
    if name == "torch":
        remedy += " (without a GPU, name PyTorch's CPU index first: TORCH_INDEX_URL, or pip's --extra-index-url)"
    found = f"not installed: {_USED_BY[extra]} needs it" if extra else "not installed"
    return Check(name, False, found, f"{remedy}.", needed=not extra)


def check_cpu() -> Check:
    return Check("CPU", True, f"{usable_cpus()} threads, {platform.machine()}")


def check_gpu() -> Check:
    try:
        torch = importlib.import_module("torch")
    except (ImportError, OSError):
        return Check("GPU", False, "unknown without torch", f"{install_command()} brings torch.", needed=False)
    if not torch.cuda.is_available():
        return Check("GPU", True, "none that torch can use: everything runs on the CPU", needed=False)
    devices = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    found = ", ".join(f"{device.name} ({device.total_memory / 2**30:.0f} GiB)" for device in devices)
    return Check("GPU", True, found, needed=False)


def check_embedded_model() -> Check:
    """Loads the networks, which compares the file with its checksum."""
    try:
        importlib.import_module("hrn_opt.builtin.weights").load_networks()
    except ImportError as error:
        return Check("embedded model", False, f"cannot be tried: {error}", f"{install_command()} brings it.")
    except Exception as error:
        return Check("embedded model", False, str(error), "Get this folder again (git checkout, or install anew).")
    return Check("embedded model", True, "complete, checksum right")


def check_hrn() -> Check:
    """How far `hrn-opt fetch` has come. A damaged pack stops the main job: it would be taken, and refused."""
    try:
        state = importlib.import_module("hrn_opt.hrn.pack.state")
    except ImportError as error:
        return Check("HRN model", False, f"cannot be tried: {error}", f"{install_command()} brings it.", needed=False)
    home = state.default_folder()
    found = state.pack_state(home).value
    if found == "missing":
        return Check("HRN model", True, "not installed: optional", f"{FETCH} gets it.", needed=False)
    if found in ("not prepared", "fetched in part"):
        return Check("HRN model", False, f"{found}, in {home}", f"{FETCH} goes on with it.", needed=False)
    return _check_prepared(home / state.PREPARED)


def _check_prepared(folder: Path) -> Check:
    """The pack opened, which compares its files' sizes, and its skin mask."""
    try:
        pack = importlib.import_module("hrn_opt.hrn.pack.prepared").open_prepared(folder)
        mask = importlib.import_module("hrn_opt.hrn.loading.build").open_skin_mask(pack)
    except ImportError as error:
        return Check("HRN model", False, f"cannot be tried: {error}", f"{install_command('hrn')} brings it.", False)
    except Exception as error:
        remedy = f"{FETCH} makes it anew; without {folder} the embedded model is used."
        return Check("HRN model", False, str(error), remedy)
    size = _gib(sum(pack.manifest.files.values()))
    faces = "finds faces" if pack.has_detectors else "no detectors: the embedded model finds the landmarks"
    found = f"prepared, {size} in {folder}; {faces}; skin mask: {mask.source}"
    hint = "onnxruntime" in mask.note and mask.source == "outline"
    return Check("HRN model", True, found, "pip install onnxruntime, for the better skin mask." if hint else "", False)


def check_temporary_folder() -> Check:
    remedy = "Make it writable, or set TMPDIR to a folder that is."
    try:
        folder = tempfile.gettempdir()
        with tempfile.NamedTemporaryFile(dir=folder):
            return Check("temporary folder", True, folder)
    except OSError as error:
        return Check("temporary folder", False, str(error), remedy)


def check_disk() -> Check:
    try:
        free = shutil.disk_usage(tempfile.gettempdir()).free
    except OSError as error:
        return Check("free disk", False, str(error), "Set TMPDIR to a folder that exists.")
    return _check("free disk", free >= NEEDED_DISK_BYTES, _gib(free), f"Free {_gib(NEEDED_DISK_BYTES)} or set TMPDIR.")


def check_memory() -> Check:
    try:
        free = free_memory_bytes()
    except ImportError:  # psutil, which has a finding of its own
        return Check("free memory", True, "unknown without psutil")
    remedy = f"Close programs, or give the container more: {_gib(NEEDED_RAM_BYTES)} needed."
    return _check("free memory", free >= NEEDED_RAM_BYTES, _gib(free), remedy)


def read_pins(path: Path = CONSTRAINTS) -> dict[str, str]:
    """Pinned version by package name; empty where there are none (an installed package)."""
    if not path.is_file():
        return {}
    pins: dict[str, str] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        name, equals, rest = line.partition("==")
        if equals:
            pins.setdefault(name.strip(), rest.split("#")[0].split(";")[0].strip())
    return pins


def examine() -> tuple[Check, ...]:
    """All checks, in the order in which their remedies are best followed."""
    memory = check_memory()  # before the other checks take some for torch and the networks
    pins = read_pins()
    machine: tuple[Callable[[], Check], ...] = (
        check_cpu,
        check_gpu,
        check_embedded_model,
        check_hrn,
        check_temporary_folder,
        check_disk,
    )
    return (check_python(), *(check_package(name, pins) for name in PACKAGES), *(check() for check in machine), memory)


def report_text(checks: Sequence[Check]) -> str:
    width = max(len(check.name) for check in checks)
    lines = []
    for check in checks:
        lines.append(f"{'ok' if check.ok else 'missing':7}  {check.name:{width}}  {check.found}")
        if check.remedy:
            lines.append(f"{'':7}  {'':{width}}  → {check.remedy}")
    lines.append("Ready." if can_run(checks) else "Not ready: follow the arrows, from the top.")
    return "\n".join(lines)


def can_run(checks: Sequence[Check]) -> bool:
    return all(check.ok for check in checks if check.needed)


def _check(name: str, ok: bool, found: str, remedy: str) -> Check:
    return Check(name, ok, found, "" if ok else remedy)


def _gib(count_bytes: int) -> str:
    return f"{count_bytes / 2**30:.1f} GiB"
