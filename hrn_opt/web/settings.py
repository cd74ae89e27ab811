"""Everything about serving that an owner may decide, in one place; read and checked as a whole before anything is."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from hrn_opt.errors import OptionInvalid
from hrn_opt.program import PROGRAM
from hrn_opt.web.door.access import (
    Access,
    Tokens,
    Users,
    check_address,
    read_tokens,
    read_tokens_file,
    read_users,
    read_users_file,
)
from hrn_opt.web.setting_kinds import (
    DEVICE,
    FOLDER,
    HOST,
    HOSTS,
    MODEL,
    NETWORKS,
    ORIGINS,
    SUB_PATH,
    YES_NO,
    Kind,
    number,
    whole,
    word,
    word_or,
)

if TYPE_CHECKING:
    from hrn_opt.photo import PhotoLimits

_FORM_BYTES = 100_000  # round the file of an upload
_MCP_BYTES = 1_000_000  # round its base64: the rest of the message, and line breaks
_LEAST_SECRET_CHARACTERS = 32
_DAY_S = 86_400
Read = TypeVar("Read")


@dataclass(frozen=True)
class Setting:
    """One row of the table that flags, variables, checks and the README follow.

    name: of the field; --most-jobs and HRN_OPT_MOST_JOBS belong to most_jobs.
    text: what it decides, in a few words.
    """

    name: str
    kind: Kind
    text: str

    @property
    def flag(self) -> str:
        return f"--{self.name.replace('_', '-')}"

    @property
    def variable(self) -> str:
        return f"HRN_OPT_{self.name.upper()}"

    @property
    def default(self) -> Any:
        return getattr(ServingSettings, self.name)

    def problem(self, given: object) -> str:
        return f"{self.flag} (or {self.variable}): {str(given)[:80]!r} is not possible; use {self.kind.wanted}"


SETTINGS = (
    Setting("host", HOST, "address to listen on"),
    Setting("port", whole(1, 65_535), "port to listen on"),
    Setting("public", YES_NO, "let everybody in who reaches the address, without a password"),
    Setting("root_path", SUB_PATH, "sub-path that a proxy serves the page under"),
    Setting("trusted_proxies", NETWORKS, "proxies whose X-Forwarded-For and -Proto are believed"),
    Setting("hosts", HOSTS, "names that the page may be asked for by; any unless told"),
    Setting("embed_in", ORIGINS, "sites that may show the page in a frame, beside its own"),
    Setting("model", MODEL, "auto, builtin, hrn, or a pack's folder"),
    Setting("device", DEVICE, "for HRN: auto, cpu, cuda, cuda:1"),
    Setting("memory", word_or("auto", number(4096, "GiB")), "GiB of the device that HRN may take, or auto"),
    Setting("offload_folder", FOLDER, "for HRN's weights that fit nowhere else"),
    Setting("concurrency", word_or("auto", whole(1, 64)), "photos at once, each in a process of its own"),
    Setting("most_jobs", whole(1, 100_000), "photos running and waiting"),
    Setting("most_jobs_per_visitor", whole(1, 100_000), "of them, of one visitor"),
    Setting("most_jobs_per_address", whole(1, 100_000), "of them, from one address"),
    Setting("deadline_s", number(_DAY_S, "seconds"), "seconds that a photo may take, waiting included"),
    Setting("drain_s", number(3600, "seconds"), "seconds that running photos have after SIGTERM"),
    Setting("max_upload_mb", number(2000, "megabytes"), "megabytes of a photo's file"),
    Setting("max_megapixels", number(1000, "megapixels"), "megapixels of a photo, looked at before it is decoded"),
    Setting("most_disk_mb", number(1e8, "megabytes"), "megabytes of everybody's photos and results"),
    Setting("kept_s", number(365 * _DAY_S, "seconds"), "seconds after which photos and results are deleted at latest"),
    Setting("max_connections", whole(1, 100_000), "connections at once"),
    Setting("max_connections_per_address", whole(1, 100_000), "of them, from one address"),
    Setting("log_level", word("debug", "info", "warning", "error"), "from which level on the log is written"),
    Setting("log_json", YES_NO, "write the log as one JSON object a line"),
    Setting("log_memory", whole(0, 1_000_000), "write memory to the log every so many photos; 0 for never"),
    Setting("mcp", YES_NO, "offer a tool for language models, POST /api/v1/mcp"),
)
# Read elsewhere, or by start.sh; whatever else begins with HRN_OPT_ is a slip.
SECRET_VARIABLES = ("HRN_OPT_USERS", "HRN_OPT_USERS_FILE", "HRN_OPT_TOKENS", "HRN_OPT_TOKENS_FILE", "HRN_OPT_SECRET")
OTHER_VARIABLES = (
    "HRN_OPT_HOME",
    "HRN_OPT_PACK_SOURCE",
    "HRN_OPT_PROGRAM",
    "HRN_OPT_NO_VENV",
    "HRN_OPT_BUILTIN_WHEELS",
)


@dataclass(frozen=True)
class ServingSettings:
    """host, port: where to listen; an IPv6 address without brackets.

    users, tokens: who may; none for everybody who reaches the address, which must then be this machine's own, or
    `public`.
    secret: signs the visitors' cookies; "" for a new one at each start.
    root_path: as "/faces"; "" for none.
    trusted_proxies: IP networks.
    hosts: names without ports, in small letters; none for any.
    embed_in: origins as a content security policy writes them.
    model, device, memory, offload_folder: as for `hrn_opt.load`.

    concurrency: photos at once, each in a process of its own; "auto" until the machine has been looked at.
    most_jobs: running and waiting; of everybody, of one visitor, from one address.
    deadline_s: a photo's longest time, waiting included.
    drain_s: how long running photos may go on after SIGTERM.
    max_upload_mb, max_megapixels: of a photo, looked at before it is decoded.
    most_disk_mb: photos and results of everybody.
    kept_s: how long photos and results stay at most.
    log_memory: write memory every so many photos; 0 for never.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    public: bool = False
    users: Users = field(default_factory=Users, repr=False)
    tokens: Tokens = field(default_factory=Tokens, repr=False)
    secret: str = field(default="", repr=False)
    root_path: str = ""
    trusted_proxies: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    embed_in: tuple[str, ...] = ()
    model: str = "auto"
    device: str = "auto"
    memory: str | float = "auto"
    offload_folder: Path | None = None
    concurrency: str | int = "auto"
    most_jobs: int = 256
    most_jobs_per_visitor: int = 64
    most_jobs_per_address: int = 128
    deadline_s: float = 600.0
    drain_s: float = 30.0
    max_upload_mb: float = 64.0  # a 48-megapixel phone photo has about 25
    max_megapixels: float = 80.0
    most_disk_mb: float = 4096.0
    kept_s: float = 3600.0
    max_connections: int = 500
    max_connections_per_address: int = 256
    log_level: str = "info"
    log_json: bool = False
    log_memory: int = 0
    mcp: bool = False

    def __post_init__(self) -> None:
        """Puts each value into its one form ("[::]" becomes "::"); OptionInvalid names all that cannot be."""
        problems = []
        for setting in SETTINGS:
            given = getattr(self, setting.name)
            try:
                object.__setattr__(self, setting.name, setting.kind.read(given))
            except ValueError:
                problems.append(setting.problem(given))
                object.__setattr__(self, setting.name, setting.default)
        problems += _together(self.host, self.public, self.access, self.secret)
        if problems:
            raise _all_of(problems)

    @property
    def access(self) -> Access:
        return Access(self.users, self.tokens)

    @property
    def url(self) -> str:
        """Where the page is, as an address for a browser on this machine."""
        return f"http://[{self.host}]:{self.port}" if ":" in self.host else f"http://{self.host}:{self.port}"

    @property
    def photo_limits(self) -> PhotoLimits:
        from hrn_opt.photo import PhotoLimits

        return PhotoLimits(max_bytes=round(self.max_upload_mb * 1e6), max_pixels=round(self.max_megapixels * 1e6))

    @property
    def max_body_bytes(self) -> int:
        """Of a request that uploads one photo."""
        return round(self.max_upload_mb * 1e6) + _FORM_BYTES

    @property
    def mcp_body_bytes(self) -> int:
        """Of a message that holds one photo as base64; 0 without the tool."""
        return round(self.max_upload_mb * 1e6 * 4 / 3) + _MCP_BYTES if self.mcp else 0


def read_settings(arguments: Sequence[str], environment: Mapping[str, str]) -> ServingSettings:
    """Flags before environment before defaults; OptionInvalid names everything that is wrong, not the first alone.

    Users, tokens and the secret come from the environment only, as flags are seen by others on the machine. An empty
    text is as good as none.
    """
    flags = _parser().parse_args(arguments)
    problems = _unknown(environment)
    values: dict[str, Any] = {}
    for setting in SETTINGS:
        given = getattr(flags, setting.name)
        given = environment.get(setting.variable, "") if given is None else given
        if given == "":
            continue
        try:
            values[setting.name] = setting.kind.read(given)
        except ValueError:
            problems.append(setting.problem(given))
    secret = environment.get("HRN_OPT_SECRET", "")
    users = _collected(lambda: _users(environment), problems)
    tokens = _collected(lambda: _tokens(environment), problems)
    if users is not None and tokens is not None:  # else nobody knows yet whether the door is closed
        host, public = values.get("host", ServingSettings.host), values.get("public", False)
        problems += _together(host, public, Access(users, tokens), secret)
        if not problems:
            return ServingSettings(users=users, tokens=tokens, secret=secret, **values)
    raise _all_of(problems)


def markdown_table() -> str:
    """The README's table of the settings."""
    rows = ["| flag | default | |", "|---|---|---|"]
    for setting in SETTINGS:
        rows.append(f"| `{setting.flag}` | {_shown(setting.default)} | {setting.text} |")
    return "\n".join(rows)


def _parser() -> argparse.ArgumentParser:
    """Of flags whose values stay texts, None where they are not given; a yes-or-no flag may stand alone."""
    parser = argparse.ArgumentParser(
        prog=f"{PROGRAM} serve",
        description="Serve the page.",
        epilog=f"Each flag is also a variable, --most-jobs HRN_OPT_MOST_JOBS. {', '.join(SECRET_VARIABLES)} are "
        "variables only.",
        allow_abbrev=False,
    )
    for setting in SETTINGS:
        help_text = f"{setting.text} (default: {_shown(setting.default)})".replace("%", "%%")
        alone: dict[str, Any] = {"nargs": "?", "const": "yes"} if setting.kind is YES_NO else {}
        parser.add_argument(setting.flag, dest=setting.name, metavar="VALUE", help=help_text, **alone)
    return parser


def _shown(default: object) -> str:
    if isinstance(default, bool):
        return "yes" if default else "no"
    if isinstance(default, float):
        return f"{default:g}"
    return "none" if default in ("", (), None) else str(default)


def _unknown(environment: Mapping[str, str]) -> list[str]:
    """A sentence on each variable that only looks like one of this program's."""
    known = [*(setting.variable for setting in SETTINGS), *SECRET_VARIABLES, *OTHER_VARIABLES]
    problems = []
    for name in sorted(environment):
        if name.upper().startswith("HRN_OPT_") and name not in known:
            close = difflib.get_close_matches(name.upper(), known, n=1)
            hint = f"did you mean {close[0]}?" if close else f"{PROGRAM} serve --help names all"
            problems.append(f"the variable {name[:80]} is not known; {hint}")
    return problems


def _together(host: str, public: bool, access: Access, secret: str) -> list[str]:
    """What is wrong with values that are each possible."""
    problems = []
    try:
        check_address(host, is_closed=bool(access), public=public)
    except OptionInvalid as error:
        problems.append(str(error).removesuffix("."))
    if 0 < len(secret) < _LEAST_SECRET_CHARACTERS:
        problems.append(f"HRN_OPT_SECRET is too short; use {_LEAST_SECRET_CHARACTERS} or more random characters")
    return problems


def _collected(read: Callable[[], Read], problems: list[str]) -> Read | None:
    """What `read` returns; None where it cannot, and the reason joins the problems."""
    try:
        return read()
    except OptionInvalid as error:
        problems.append(str(error).removesuffix("."))
        return None


def _users(environment: Mapping[str, str]) -> Users:
    """Those of HRN_OPT_USERS and of the file that HRN_OPT_USERS_FILE names."""
    users = dict(read_users(environment.get("HRN_OPT_USERS", "")).hashes)
    if path := environment.get("HRN_OPT_USERS_FILE"):
        users |= read_users_file(Path(path)).hashes
    return Users(users)


def _tokens(environment: Mapping[str, str]) -> Tokens:
    """Those of HRN_OPT_TOKENS and of the file that HRN_OPT_TOKENS_FILE names."""
    tokens = dict(read_tokens(environment.get("HRN_OPT_TOKENS", "")).digests)
    if path := environment.get("HRN_OPT_TOKENS_FILE"):
        tokens |= read_tokens_file(Path(path)).digests
    return Tokens(tokens)


def _all_of(problems: Sequence[str]) -> OptionInvalid:
    """One sentence that tells them all."""
    if len(problems) == 1:
        return OptionInvalid(f"{problems[0][0].upper()}{problems[0][1:]}.")
    told = "; ".join(f"({number}) {problem}" for number, problem in enumerate(problems, 1))
    return OptionInvalid(f"{len(problems)} settings are wrong: {told}.")
