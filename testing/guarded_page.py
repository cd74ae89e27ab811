"""A tiny Gradio page behind the real guard and connections, in a process of its own: `python -m testing.guarded_page`.

The page hands a photo back after three steps.
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
STARTS_WITHIN_S = 90  # two busy cores and cold files
STEPS, STEP_S = 3, 0.5


@dataclass(frozen=True)
class GuardedPage:
    """port: of 127.0.0.1.
    uploads: the folder that Gradio writes to.
    log: what the process wrote.
    """

    port: int
    pid: int
    uploads: Path
    log: Path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def guarded_page(folder: Path, *options: str) -> Iterator[GuardedPage]:
    """options: as below, such as "--root-path=/faces"."""
    port, log = free_port(), folder / "log"
    uploads = folder / "uploads"
    uploads.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "testing.guarded_page", f"--port={port}", *options]
    environment = {**os.environ, "GRADIO_TEMP_DIR": str(uploads), "GRADIO_ANALYTICS_ENABLED": "False"}
    with log.open("w") as output:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=output)
    try:
        until_s = time.monotonic() + STARTS_WITHIN_S
        while not _answers(f"http://127.0.0.1:{port}/config"):
            assert process.poll() is None and time.monotonic() < until_s, log.read_text()
            time.sleep(0.1)
        yield GuardedPage(port, process.pid, uploads, log)
    finally:
        process.terminate()
        process.wait(30)


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=10):
            return True
    except OSError:
        return False


def serve(port: int, root_path: str, max_body_bytes: int, most_bytes: int) -> None:
    import gradio as gr
    import uvicorn
    from fastapi import FastAPI

    from hrn_opt.web.door.guard import Guard
    from hrn_opt.web.door.protocol import ConnectionLimits, protocol
    from hrn_opt.web.door.uploads import Uploads
    from hrn_opt.web.folders import Quota

    def create(photo: str) -> Iterator[str | None]:
        for _ in range(STEPS):
            time.sleep(STEP_S)
            yield None
        yield photo

    with gr.Blocks() as page:
        given, shown, button = gr.Image(type="filepath"), gr.Image(type="filepath"), gr.Button()
        button.click(create, given, shown, api_name="create")
    app = FastAPI(openapi_url=None)
    gr.mount_gradio_app(app, page, "/", show_error=False, enable_monitoring=False, footer_links=[], run_history=False)
    folder = Path(os.environ["GRADIO_TEMP_DIR"])
    uploads = Uploads(folder, Quota(folder, most_bytes))
    guard = Guard(app, max_body_bytes=max_body_bytes, root_path=root_path, uploads=uploads)
    limits = ConnectionLimits()
    uvicorn.run(guard, port=port, http=protocol(limits), ws="none", timeout_graceful_shutdown=2, log_level="warning")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int)
    parser.add_argument("--root-path", default="")
    parser.add_argument("--max-body-bytes", type=int, default=10_000_000)
    parser.add_argument("--most-bytes", type=int, default=1_000_000_000)
    serve(**vars(parser.parse_args()))
