"""A loopback server that answers as the ModelScope hub does, as far as a download of one model goes."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections import Counter
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlparse

_BLOCK_BYTES = 1 << 16


class Hub:
    """What the server offers and what it was asked for.

    missing: paths that are listed and not there.
    status: of every answer, when not 200.
    known_revisions: that it has; None for any.
    revisions: that it was asked for.
    cut_after: path → bytes after which the connection drops, as often as `cuts` says.
    asked: path → its requests.
    ranges: (path, Range header) of the partial ones.
    """

    def __init__(self, folder: Path, model_id: str):
        self.folder, self.model_id = folder, model_id
        self.asked: Counter[str] = Counter()
        self.ranges: list[tuple[str, str]] = []
        self.cut_after: dict[str, int] = {}
        self.cuts = 0
        self.missing: set[str] = set()
        self.known_revisions: set[str] | None = None
        self.revisions: list[str] = []
        self.status = 200
        self.endpoint = ""

    def listing(self) -> list[dict]:
        files = sorted(path for path in self.folder.rglob("*") if path.is_file())
        return [
            {
                "Path": str(path.relative_to(self.folder)),
                "Name": path.name,
                "Type": "blob",
                "Size": path.stat().st_size,
                "Sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            }
            for path in files
        ]


class _Handler(BaseHTTPRequestHandler):
    """Answers as the hub that its server carries."""

    protocol_version = "HTTP/1.1"

    @property
    def hub(self) -> Hub:
        return self.server.hub

    def do_GET(self):
        url = urlparse(self.path)
        asked = parse_qs(url.query).get("Revision", [])
        self.hub.revisions += asked
        if self.hub.status != 200:
            self._answer(self.hub.status, b"{}")
        elif self.hub.known_revisions is not None and not self.hub.known_revisions.issuperset(asked):
            self._answer(404, b"{}", "application/json")
        elif url.path == f"/api/v1/models/{self.hub.model_id}/repo/files":
            content = {"Code": 200, "Success": True, "Data": {"Files": self.hub.listing()}}
            self._answer(200, json.dumps(content).encode(), "application/json")
        elif url.path == f"/api/v1/models/{self.hub.model_id}/repo":
            self._send_file(parse_qs(url.query)["FilePath"][0])
        else:
            self._answer(404, b"{}", "application/json")

    def _send_file(self, path: str):
        self.hub.asked[path] += 1
        if path in self.hub.missing:
            self._answer(404, b"{}", "application/json")
            return
        size = (self.hub.folder / path).stat().st_size
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        first = int(wanted[1]) if wanted else 0
        last = int(wanted[2]) if wanted and wanted[2] else size - 1
        if wanted:
            self.hub.ranges.append((path, wanted[0]))
        self.send_response(206 if wanted else 200)
        if wanted:
            self.send_header("Content-Range", f"bytes {first}-{last}/{size}")
        self.send_header("Content-Length", str(last + 1 - first))
        self.end_headers()
        stop = last + 1
        if self.hub.cuts > 0 and path in self.hub.cut_after:
            self.hub.cuts -= 1
            stop = min(stop, first + self.hub.cut_after[path])
        with (self.hub.folder / path).open("rb") as file:
            file.seek(first)
            while (left := stop - file.tell()) > 0:
                self.wfile.write(file.read(min(_BLOCK_BYTES, left)))
        if stop != last + 1:
            self.close_connection = True

    def _answer(self, status: int, content: bytes, kind: str = "text/plain"):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


@contextmanager
def serving(folder: Path, model_id: str):
    """A Hub that serves the folder as that model until the block ends."""
    hub = Hub(folder, model_id)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.hub = hub
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
