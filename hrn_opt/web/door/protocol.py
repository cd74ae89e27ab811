"""HTTP connections that end when their client is too slow, and make room when there are too many.

uvicorn waits forever for the rest of a half-sent request, and for a client that reads nothing of its answer; a few
hundred of those would use up the server. Its protocol is given deadlines here, and a most of connections.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import resource
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Any, ClassVar

import h11
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

BACKLOG = 128  # connections that the system holds until they are accepted; also how often asyncio logs a failure
LOOK_EVERY_S = 0.5
_OWN_FILES = 128  # open files of the server itself: of its models, photos, folders and processes
_FEWEST = 16
_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: text/plain; charset=utf-8\r\nretry-after: 10\r\n"
    b"content-length: 30\r\nconnection: close\r\n\r\nToo many are here; come later."
)


@dataclass(frozen=True)
class ConnectionLimits:
    """Of each server process.

    most, most_per_address: connections at once. A school or a company is one address; so is an IPv6 network of 64 bits.
    header_s: from the first byte of a request to the last of its headers, and from connecting to the first request.
    body_grace_s, body_bytes_per_s: a body must have come at that rate once the grace is over. 8 kB/s is what EDGE, the
        slowest network of phones still in use, uploads in practice; 64 MB may then take two hours, but those who
        trickle are told apart after half a minute.
    linger_s: for the rest of a body that was answered before it had come.
    idle_s: between requests. Longer than the 60 s for which proxies keep a connection, or they would send into one
        that is just being closed.
    stall_s: without the client reading any of an answer that waits for it.
    head_bytes: of a request's headers while they are incomplete.
    """

    most: int = 500
    most_per_address: int = 256
    header_s: float = 5.0
    body_grace_s: float = 30.0
    body_bytes_per_s: float = 8_000.0
    linger_s: float = 30.0
    idle_s: int = 75
    stall_s: float = 60.0
    head_bytes: int = 16_384

    def fitting_open_files(self, most_open_files: int) -> ConnectionLimits:
        """These limits, with no more connections than the system lets this process open beside its own files."""
        return replace(self, most=min(self.most, max(most_open_files - _OWN_FILES, _FEWEST)))


class Phase(Enum):
    """What a connection waits for; in the order in which connections are given up when there are too many."""

    HEAD = auto()  # headers that have begun, or the first request
    IDLE = auto()  # the next request
    BODY = auto()  # the rest of a body
    SERVED = auto()  # the answer: never given up for others


class _Crowd:
    """Connections by phase, those longest in it first."""

    def __init__(self) -> None:
        self.count = 0
        self._phases: dict[Phase, dict[LimitedProtocol, None]] = {phase: {} for phase in Phase}

    def enter(self, connection: LimitedProtocol) -> None:
        self.count += 1
        self._phases[connection.phase][connection] = None

    def leave(self, connection: LimitedProtocol) -> None:
        self.count -= 1
        del self._phases[connection.phase][connection]

    def longest_waiting(self) -> LimitedProtocol | None:
        for phase in (Phase.HEAD, Phase.IDLE, Phase.BODY):
            if waiting := self._phases[phase]:
                return next(iter(waiting))
        return None

    def __iter__(self) -> Iterator[LimitedProtocol]:
        return (connection for phase in self._phases.values() for connection in phase)


class Room:
    """All connections of one server.

    exempt: addresses and networks ("10.0.0.0/8", "*") whose connections are many people's: trusted proxies.
    """

    def __init__(self, limits: ConnectionLimits, exempt: Iterable[str] = ()):
        self.limits = limits
        exempt = set(exempt)
        self._all_exempt = "*" in exempt
        self._exempt = [ipaddress.ip_network(one, strict=False) for one in exempt - {"*"}]
        self._all = _Crowd()
        self._by_address: dict[str, _Crowd] = {}
        self._looking: asyncio.TimerHandle | None = None

    @property
    def count(self) -> int:
        return self._all.count

    def enter(self, connection: LimitedProtocol) -> bool:
        """Whether there is room, if need be instead of the connection that has waited longest for its own request."""
        neighbours = self._by_address.get(connection.counted_as)
        if neighbours and neighbours.count >= self.limits.most_per_address and not _free_one(neighbours):
            return False
        if self._all.count >= self.limits.most and not _free_one(self._all):
            return False
        if connection.counted_as:
            self._by_address.setdefault(connection.counted_as, _Crowd())
        for crowd in self._crowds(connection):
            crowd.enter(connection)
        connection.inside = True
        if self._looking is None:
            self._looking = connection.loop.call_later(LOOK_EVERY_S, self._look, connection.loop)
        return True

    def leave(self, connection: LimitedProtocol) -> None:
        if not connection.inside:
            return
        connection.inside = False
        for crowd in self._crowds(connection):
            crowd.leave(connection)
        if (address := connection.counted_as) and self._by_address[address].count == 0:
            del self._by_address[address]

    def move(self, connection: LimitedProtocol, phase: Phase) -> None:
        crowds = self._crowds(connection) if connection.inside else []
        for crowd in crowds:
            crowd.leave(connection)
        connection.phase = phase
        for crowd in crowds:
            crowd.enter(connection)

    def counted_as(self, client: tuple[str, int] | None) -> str:
        """The name that a client's connections are counted under; "" where they are not."""
        if client is None or self._all_exempt:
            return ""
        address = ipaddress.ip_address(client[0].partition("%")[0])
        if isinstance(address, ipaddress.IPv6Address):
            address = address.ipv4_mapped or address
        if any(address in network for network in self._exempt):
            return ""
        if isinstance(address, ipaddress.IPv6Address):  # whoever has one has the 2 ** 64 beside it
            return str(ipaddress.ip_network((address, 64), strict=False))
        return str(address)

    def _crowds(self, connection: LimitedProtocol) -> list[_Crowd]:
        own = self._by_address.get(connection.counted_as)
        return [self._all] if own is None else [self._all, own]

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        now_s = time.monotonic()
        for connection in list(self._all):
            connection.look(now_s)
        self._looking = loop.call_later(LOOK_EVERY_S, self._look, loop) if self._all.count else None


def _free_one(crowd: _Crowd) -> bool:
    leaving = crowd.longest_waiting()
    if leaving is None:
        return False
    leaving.give_up()
    return True


class LimitedProtocol(H11Protocol):
    """One connection; `protocol` makes the class that uvicorn is given."""

    room: ClassVar[Room]

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ):
        super().__init__(config, server_state, app_state, _loop)
        self.timeout_keep_alive = self.room.limits.idle_s
        self.conn = h11.Connection(h11.SERVER, self.room.limits.head_bytes)
        self.inside = False
        self.counted_as = ""
        self.phase = Phase.HEAD
        self._since_s = self._looked_s = self._read_s = time.monotonic()
        self._body_s, self._body_bytes, self._unread_bytes = 0.0, 0, 0
        self._settled: tuple[object, ...] = ()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.counted_as = self.room.counted_as(self.client)
        if not self.room.enter(self):
            transport.write(_FULL)
            transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.room.leave(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return  # refused, or given up
        self._body_bytes += len(data)
        super().data_received(data)
        self._settle()

    def resume_writing(self) -> None:
        """The client has read so much that more is written: between two looks the same may lie there unread again."""
        self._read_s = time.monotonic()
        super().resume_writing()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._settle()

    def _should_upgrade(self) -> bool:
        return False  # nothing here speaks WebSocket; and an upgraded connection would escape from the limits

    def give_up(self) -> None:
        self.room.leave(self)
        self.transport.abort()

    def look(self, now_s: float) -> None:
        """Gives the connection up when its client is too slow."""
        passed_s, self._looked_s = now_s - self._looked_s, now_s
        if self.phase is Phase.BODY and not self.flow.read_paused:  # paused: it is for the page to go on
            self._body_s += passed_s
        if self._is_too_slow(now_s - self._since_s) or self._reads_nothing(now_s):
            self.give_up()

    def _is_too_slow(self, waited_s: float) -> bool:
        limits = self.room.limits
        if self.phase is Phase.HEAD:
            return waited_s > limits.header_s
        if self.phase is Phase.IDLE:  # uvicorn's own timer ends it in a friendlier way, if nothing stopped that
            return waited_s > limits.idle_s + LOOK_EVERY_S
        if self.phase is Phase.BODY:
            if self.cycle.response_complete:
                return self._body_s > limits.linger_s
            return self._body_bytes < limits.body_bytes_per_s * (self._body_s - limits.body_grace_s)
        return False

    def _reads_nothing(self, now_s: float) -> bool:
        unread_bytes = self.transport.get_write_buffer_size()
        if unread_bytes == 0 or unread_bytes < self._unread_bytes:
            self._read_s = now_s
        self._unread_bytes = unread_bytes
        return now_s - self._read_s > self.room.limits.stall_s

    def _settle(self) -> None:
        """Notes the phase that the last event led to, and how long it lasts from now on."""
        phase = self._phase_now()
        settled = (phase, self.cycle, self.cycle is not None and self.cycle.response_complete)
        if settled != self._settled:
            self._settled = settled
            if phase is not Phase.HEAD or self.phase is not Phase.HEAD:
                self._since_s = time.monotonic()
            self._body_s, self._body_bytes = 0.0, 0
            self.room.move(self, phase)

    def _phase_now(self) -> Phase:
        if self.conn.their_state is h11.IDLE:
            has_begun = self.cycle is None or len(self.conn.trailing_data[0]) > 0
            return Phase.HEAD if has_begun else Phase.IDLE
        return Phase.BODY if self.conn.their_state is h11.SEND_BODY else Phase.SERVED


def protocol(limits: ConnectionLimits, exempt_addresses: Iterable[str] = ()) -> type[LimitedProtocol]:
    """What `uvicorn.Config(http=…)` is given for one server.

    exempt_addresses: of trusted proxies, as in `Room`.
    """
    most_open_files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most_open_files != resource.RLIM_INFINITY:
        limits = limits.fitting_open_files(most_open_files)
    return type("LimitedProtocol", (LimitedProtocol,), {"room": Room(limits, exempt_addresses)})


class AcceptFilter(logging.Filter):
    """Lets asyncio's complaint that no more files can be opened through once a minute.

    Python 3.11 logs it with a traceback for each place of the backlog, again and again: gigabytes in an hour.
    """

    def __init__(self, every_s: float = 60.0):
        super().__init__()
        self._every_s = every_s
        self._last_s = -every_s

    def filter(self, record: logging.LogRecord) -> bool:
        if "socket.accept() out of system resource" not in str(record.msg):
            return True
        now_s = time.monotonic()
        if now_s - self._last_s < self._every_s:
            return False
        self._last_s = now_s
        return True


def filter_accept_log() -> None:
    """Adds the filter once."""
    log = logging.getLogger("asyncio")
    if not any(isinstance(one, AcceptFilter) for one in log.filters):
        log.addFilter(AcceptFilter())
