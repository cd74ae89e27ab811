"""What a program asks of the page that runs in a container."""

import http.client
import time
from collections.abc import Callable
from pathlib import Path

_BOUNDARY = "photo-of-a-face"
Address = tuple[str, int]


def _ask(address: Address, method: str, path: str, body: bytes | None = None, kind: str = "") -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(*address, timeout=120)
    try:
        connection.request(method, path, body, {"Content-Type": kind} if kind else {})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def await_readiness(address: Address, longest_s: float, lives: Callable[[], bool]) -> None:
    """Until the page takes photos; it must within `longest_s`, and while what serves it `lives`."""
    end, told = time.monotonic() + longest_s, b"nothing"
    while True:
        try:
            status, told = _ask(address, "GET", "/readyz")
            if status == 200:
                return
        except (OSError, http.client.HTTPException):
            pass
        assert time.monotonic() < end and lives(), f"the page takes no photos; it answered {told!r}"
        time.sleep(0.2)


def glb_of(address: Address, photo: Path, texture_size: int = 1024) -> bytes:
    """The GLB that the endpoint for programs makes of a photo, asked for as README's curl line does."""
    fields = (
        f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="texture_size"\r\n\r\n{texture_size}\r\n'
        f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="photo"; filename="{photo.name}"\r\n\r\n'
    )
    form = fields.encode() + photo.read_bytes() + f"\r\n--{_BOUNDARY}--\r\n".encode()
    status, content = _ask(address, "POST", "/api/v1/faces", form, f"multipart/form-data; boundary={_BOUNDARY}")
    assert status == 200, (status, content[:200])
    return content
