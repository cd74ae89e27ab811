"""Everything about serving that an owner may decide, in one place."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hrn_opt.errors import OptionInvalid
from hrn_opt.photo import PhotoLimits
from hrn_opt.program import PROGRAM
from hrn_opt.serving.worker import WorkerLimits
from hrn_opt.web.access import Users, check_address, read_users, read_users_file

_FORM_BYTES = 100_000  # round the file of an upload


@dataclass(frozen=True)
class ServingSettings:
    """host, port: where to listen.

    users: who may; none for everybody who reaches the address, which must then be this machine's own, or `public`.
    model, device, memory, offload_folder: as for `hrn_opt.load`.

    concurrency: photos at once, each with a model of its own.
    most_jobs: running and waiting.
    deadline_s: a photo's longest time, waiting included.
    max_upload_mb, max_megapixels: of a photo, looked at before it is decoded.
    kept_s: how long photos and results stay at most.
    log_memory: write memory every so many photos; 0 for never.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    public: bool = False
    users: Users = field(default_factory=Users, repr=False)
    model: str = "auto"
    device: str = "auto"
    memory: str | float = "auto"
    offload_folder: Path | None = None
    concurrency: int = 1
    most_jobs: int = 8
    deadline_s: float = 600.0
    max_upload_mb: float = 64.0  # a 48-megapixel phone photo has about 25
    max_megapixels: float = 80.0
    kept_s: float = 3600.0
    log_memory: int = 0

    def __post_init__(self) -> None:
        above_zero = ("concurrency", "most_jobs", "deadline_s", "max_upload_mb", "max_megapixels", "kept_s")
        for name in above_zero:
            if not getattr(self, name) > 0:
                raise OptionInvalid(f"{name}={getattr(self, name)!r} is not possible; use a number above 0.")
        if self.log_memory < 0:
            raise OptionInvalid(f"log_memory={self.log_memory!r} is not possible; use 0 for never, or 1 and more.")
        check_address(self.host, self.users, self.public)

    @property
    def worker_limits(self) -> WorkerLimits:
        return WorkerLimits(self.concurrency, self.most_jobs, self.deadline_s)

    @property
    def photo_limits(self) -> PhotoLimits:
        return PhotoLimits(max_bytes=round(self.max_upload_mb * 1e6), max_pixels=round(self.max_megapixels * 1e6))

    @property
    def max_body_bytes(self) -> int:
        """Of a request that uploads one photo."""
        return self.photo_limits.max_bytes + _FORM_BYTES


# Flag, type, and what it does; each is also a variable: --most-jobs is HRN_OPT_MOST_JOBS.
_FLAGS = (
    ("host", str, "address to listen on"),
    ("port", int, "port to listen on"),
    ("model", str, "auto, builtin, hrn, or a pack's folder"),
    ("device", str, "for HRN: auto, cpu, cuda, cuda:1"),
    ("memory", str, "GiB of the device that HRN may take, or auto"),
    ("offload_folder", Path, "for HRN's weights that fit nowhere else"),
    ("concurrency", int, "photos at once"),
    ("most_jobs", int, "photos running and waiting"),
    ("deadline_s", float, "seconds that a photo may take, waiting included"),
    ("max_upload_mb", float, "megabytes of a photo's file"),
    ("max_megapixels", float, "megapixels of a photo"),
    ("kept_s", float, "seconds after which photos and results are deleted, at the latest"),
    ("log_memory", int, "write memory to the log every N photos; 0 for never"),
)


def read_settings(arguments: Sequence[str], environment: Mapping[str, str]) -> ServingSettings:
    """Flags before environment before defaults; users come from the environment only, as flags are seen by others."""
    parser = argparse.ArgumentParser(prog=f"{PROGRAM} serve", description="Serve the page.", allow_abbrev=False)
    for name, kind, text in _FLAGS:
        default = getattr(ServingSettings, name)
        given = environment.get(f"HRN_OPT_{name.upper()}", default)
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, default=given, help=f"{text} (default {default})")
    parser.add_argument(
        "--public",
        action="store_true",
        default=environment.get("HRN_OPT_PUBLIC", "") not in ("", "0"),
        help="let everybody in who reaches the address, without a password",
    )
    options = vars(parser.parse_args(arguments))
    if options["memory"] != "auto":
        options["memory"] = _gib(options["memory"])
    return ServingSettings(users=_users(environment), **options)


def _gib(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise OptionInvalid(f"memory={text!r} is no budget; use 'auto' or a number of GiB, such as 0.5.") from None


def _users(environment: Mapping[str, str]) -> Users:
    """Those of HRN_OPT_USERS and of the file that HRN_OPT_USERS_FILE names."""
    users = dict(read_users(environment.get("HRN_OPT_USERS", "")).hashes)
    if path := environment.get("HRN_OPT_USERS_FILE"):
        users |= read_users_file(Path(path)).hashes
    return Users(users)
