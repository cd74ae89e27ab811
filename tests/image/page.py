"""What a program asks of the page that runs in a container."""

import http.client
import json
import re
import time
from collections.abc import Callable
from pathlib import Path

_BOUNDARY = "photo-of-a-face"
Address = tuple[str, int]


def _ask(address: Address, method: str, path: str, body: bytes | None = None, kind: str = "") -> bytes:
    connection = http.client.HTTPConnection(*address, timeout=120)
    try:
        connection.request(method, path, body, {"Content-Type": kind} if kind else {})
        answer = connection.getresponse()
        content = answer.read()
    finally:
        connection.close()
    assert answer.status == 200, (path, answer.status, content[:200])
    return content


def await_health(address: Address, longest_s: float, lives: Callable[[], bool]) -> None:
    """Until the page answers; it must within `longest_s`, and while what serves it `lives`."""
    end = time.monotonic() + longest_s
    while True:
        try:
            _ask(address, "GET", "/healthz")
            return
        except (OSError, http.client.HTTPException):
            assert time.monotonic() < end and lives(), "the page does not answer"
            time.sleep(0.2)


def glb_of(address: Address, photo: Path) -> bytes:
    """The GLB that the page's endpoint makes of a photo, asked for as README's curl lines do."""
    head = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="files"; filename="{photo.name}"\r\n\r\n'
    form = head.encode() + photo.read_bytes() + f"\r\n--{_BOUNDARY}--\r\n".encode()
    (path,) = json.loads(
        _ask(address, "POST", "/gradio_api/upload", form, f"multipart/form-data; boundary={_BOUNDARY}")
    )
    given = {"path": path, "meta": {"_type": "gradio.FileData"}}
    call = json.dumps({"data": [given, 1024, "mesh", "1", "auto", "auto"]}).encode()
    number = json.loads(_ask(address, "POST", "/gradio_api/call/create", call, "application/json"))["event_id"]
    events = _ask(address, "GET", f"/gradio_api/call/create/{number}").decode()
    (answer,) = re.findall(r"^event: complete\ndata: (.*)", events, re.MULTILINE)
    glb = re.search(r'"path": "([^"]*[.]glb)"', answer)[1]  # a file may lie in an update of its button
    return _ask(address, "GET", f"/gradio_api/file={glb}")
