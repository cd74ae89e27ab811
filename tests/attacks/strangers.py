"""What the attacks share: visitors of a real server, what they send, and the figures that come of it."""

import json
import resource
import socket
import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import numpy as np

from tests.browser.visits import GIVES_UP_AFTER_S

MB = 1_000_000
CREATE = ("mesh", "1", "builtin", "auto")  # what is wanted, face, model, precision


@contextmanager
def visiting(address, **options):
    """A browser that has opened the page, and so has its cookie."""
    with httpx.Client(base_url=address, timeout=GIVES_UP_AFTER_S, trust_env=False, **options) as visitor:
        assert visitor.get("/").status_code == 200
        yield visitor


def ready(served):
    """The same server, once its model answers."""
    with httpx.Client(base_url=served.address, timeout=60, trust_env=False) as http:
        wait_until(lambda: http.get("/readyz").status_code == 200)
    return served


def uploaded(visitor, photo, name="me.jpg"):
    answer = visitor.post("/gradio_api/upload", files={"files": (name, photo)})
    return answer.json()[0] if answer.status_code == 200 else answer.status_code


def joined(visitor, path, session, texture_size=512, want="texture", fn_index=None):
    """The status of asking for a face of an upload."""
    photo = {"path": path, "meta": {"_type": "gradio.FileData"}}
    body = {
        "data": [photo, texture_size, want, *CREATE[1:]],
        "fn_index": create_index(visitor) if fn_index is None else fn_index,
        "session_hash": session,
        "event_data": None,
        "trigger_id": None,
    }
    content = json.dumps(body).encode()  # with escapes: it may hold what is no text
    return visitor.post("/gradio_api/queue/join", content=content, headers={"content-type": "application/json"})


def create_index(visitor):
    return next(one["id"] for one in visitor.get("/config").json()["dependencies"] if one["api_name"] == "create")


def outcome(visitor, session):
    """The last message of the session's first event."""
    with visitor.stream("GET", "/gradio_api/queue/data", params={"session_hash": session}) as stream:
        for line in stream.iter_lines():
            if line.startswith("data: "):
                message = json.loads(line[6:])
                if message["msg"] in ("process_completed", "unexpected_error", "close_stream"):
                    return message
    return {}


def face(client, photo, name="me.jpg", headers=None, **fields):
    """The answer of the endpoint for programs."""
    return client.post("/api/v1/faces", files={"photo": (name, photo)}, data=fields, headers=headers)


def served_folder(served) -> Path:
    (root,) = served.folder.glob("hrn_opt_*/files")
    return root


def wait_until(holds, seconds=GIVES_UP_AFTER_S):
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.02)


def at_once(call, *arguments, threads=16):
    """What the calls return, made in threads."""
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(call, *arguments))


def raw(address, *parts, wait_s=10.0, pause_s=0.0):
    """What the server answers to bytes as they are, until it closes or is silent."""
    host, port = address.removeprefix("http://").split(":")
    answer = b""
    with socket.create_connection((host, int(port)), timeout=wait_s) as connection:
        with suppress(ConnectionError):
            for part in parts:
                connection.sendall(part)
                time.sleep(pause_s)
        with suppress(TimeoutError, ConnectionError):
            while piece := connection.recv(65_536):
                answer += piece
    return answer


@contextmanager
def held_open(address, begun, count):
    """Keeps so many connections open, each with this sent; whichever the server ends is opened anew.

    Gives a function: how many were opened so far.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, count + 500)), hard))
    host, port = address.removeprefix("http://").split(":")
    ended, opened = threading.Event(), []

    def hold():
        held = deque()
        while not ended.is_set():
            with suppress(OSError):
                held.append(socket.create_connection((host, int(port)), timeout=5))
                held[-1].sendall(begun)
                opened.append(1)
            if len(held) > count:
                held.popleft().close()
            if len(opened) > count:
                time.sleep(0.005)
        for one in held:
            one.close()

    holder = threading.Thread(target=hold)
    holder.start()
    try:
        wait_until(lambda: len(opened) >= count)
        yield lambda: len(opened)
    finally:
        ended.set()
        holder.join()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def timed(call):
    """Seconds that the call took."""
    began_s = time.monotonic()
    call()
    return time.monotonic() - began_s


def p95(seconds):
    return float(np.percentile(seconds, 95))


def figure(record_property, row, **values):
    """Has the figures of one row of faults shown (pytest -rA) and kept."""
    shown = {name: f"{value:.3g}" if isinstance(value, float) else value for name, value in values.items()}
    told = ", ".join(f"{name} {value}" for name, value in shown.items())
    record_property(f"row {row}", told)
    print(f"row {row}: {told}")  # noqa: T201
