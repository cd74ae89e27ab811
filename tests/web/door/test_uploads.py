"""A real page behind the guard: hostile bodies cost no memory, and no upload leaves a file behind that is nobody's."""

import contextlib
import http.client
import json
import os
import socket
import subprocess
import time

import psutil
import pytest

from hrn_opt.web.door.bodies import has_other_charset
from testing.guarded_page import guarded_page

pytestmark = pytest.mark.slow
MOST_GROWTH_BYTES = 20_000_000
HEAD = "POST /gradio_api/{path} HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\n{more}\r\n"
FORM = "multipart/form-data; boundary=x"
PART = b'--x\r\nContent-Disposition: form-data; name="%s"; filename="me.jpg"\r\n\r\n'
END = b"\r\n--x--\r\n"


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    with guarded_page(tmp_path_factory.mktemp("page")) as page:
        assert upload(page, b"warm up")[0] == 200
        yield page


def upload(page, content, field=b"files"):
    """(status, text) of one whole upload."""
    connection = http.client.HTTPConnection("127.0.0.1", page.port, timeout=60)
    with contextlib.closing(connection):
        body = PART % field + content + END
        connection.request("POST", "/gradio_api/upload", body, {"Content-Type": FORM})
        response = connection.getresponse()
        return response.status, response.read().decode()


def sent(page, path, kind, more, chunk, most_bytes, first=b""):
    """(the start of the answer, by how much the server grew) while a body was sent for as long as it was taken."""
    process, count_bytes, answer = psutil.Process(page.pid), 0, b""
    before_bytes = most = process.memory_info().rss
    with socket.create_connection(("127.0.0.1", page.port), timeout=20) as connection, contextlib.suppress(OSError):
        connection.sendall(HEAD.format(path=path, kind=kind, more=more).encode() + first)
        while count_bytes < most_bytes:
            connection.sendall(chunk)
            count_bytes += len(chunk)
            if count_bytes % (len(chunk) * 50) == 0:
                most = max(most, process.memory_info().rss)
        answer = connection.recv(200)
    return answer, max(most, process.memory_info().rss) - before_bytes


def chunk_of(count_bytes):
    return f"{count_bytes:x}\r\n".encode() + b" " * count_bytes + b"\r\n"


BODIES = {
    "contradictory": ("queue/join", "application/json", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"),
    "endless parameters": ("queue/join", "application/json", "Transfer-Encoding: chunked\r\n"),
    "long parameters": ("queue/join", "application/json", "Content-Length: 900000000\r\n"),
    "endless form": ("upload", FORM, "Transfer-Encoding: chunked\r\n"),
    "long form": ("upload", FORM, "Content-Length: 900000000\r\n"),
}


@pytest.mark.parametrize("name", BODIES)
def test_a_body_over_the_limit_costs_no_memory(page, name):
    path, kind, more = BODIES[name]
    start = PART % b"files"
    first = f"{len(start):x}\r\n".encode() + start + b"\r\n" if "endless form" in name else b""
    answer, growth_bytes = sent(page, path, kind, more, chunk_of(65_536), 200_000_000, first)
    assert growth_bytes < MOST_GROWTH_BYTES
    assert answer == b"" or answer.split()[1] == (b"400" if name == "contradictory" else b"413"), answer
    assert left_over(page) == []


def test_a_form_a_little_over_the_limit_is_told_so(page):
    length = 10_000_001
    answer, _ = sent(page, "upload", FORM, f"Content-Length: {length}\r\n", bytes(length), length)
    assert answer.split()[1] == b"413"
    whole = PART % b"files" + bytes(10_000_001) + END
    body = f"{len(whole):x}\r\n".encode() + whole + b"\r\n0\r\n\r\n"
    answer, _ = sent(page, "upload", FORM, "Transfer-Encoding: chunked\r\n", body, 1)
    assert answer.split()[1] == b"413"
    assert left_over(page) == []


def test_whoever_waits_to_be_told_to_go_on_is_refused_at_once(page):
    head = HEAD.format(path="upload", kind=FORM, more="Content-Length: 99000000\r\nExpect: 100-continue\r\n")
    with socket.create_connection(("127.0.0.1", page.port), timeout=20) as connection:
        connection.sendall(head.encode())
        assert connection.recv(100).split()[1] == b"413"


def left_over(page):
    """Part files in the upload folder once they had a moment to go."""
    until_s = time.monotonic() + 10
    while (found := [path.name for path in page.uploads.glob("tmp*")]) and time.monotonic() < until_s:
        time.sleep(0.05)
    return found


def test_a_chunked_upload_arrives(page):
    whole = PART % b"files" + b"photo" + END
    body = f"{len(whole):x}\r\n".encode() + whole + b"\r\n0\r\n\r\n"
    answer, _ = sent(page, "upload", FORM, "Transfer-Encoding: chunked\r\n", body, 1)
    assert answer.split()[1] == b"200"


def test_a_cut_upload_leaves_no_part_file_while_others_go_on(page):
    head = HEAD.format(path="upload", kind=FORM, more="Content-Length: 5000000\r\n").encode()
    with (
        socket.create_connection(("127.0.0.1", page.port)) as slow,
        socket.create_connection(("127.0.0.1", page.port)) as cut,
    ):
        for connection in (slow, cut):
            connection.sendall(head + PART % b"files" + bytes(100_000))
        until_s = time.monotonic() + 20
        while len(list(page.uploads.glob("tmp*"))) < 2:
            assert time.monotonic() < until_s
            time.sleep(0.05)
        cut.close()
        while len(list(page.uploads.glob("tmp*"))) > 1:
            assert time.monotonic() < until_s
            time.sleep(0.05)
        time.sleep(0.5)
        assert len(list(page.uploads.glob("tmp*"))) == 1  # the slow one's
    assert left_over(page) == []
    assert "Traceback" not in page.log.read_text()


def test_a_file_in_another_field_is_deleted(page):
    assert upload(page, b"photo", field=b"other")[0] == 200
    assert left_over(page) == []


def test_past_the_quota_an_upload_is_refused_in_a_sentence(tmp_path):
    with guarded_page(tmp_path, "--most-bytes=3000000") as page:
        assert upload(page, b"1" * 2_000_000)[0] == 200
        status, text = upload(page, b"2" * 2_000_000)
        assert status == 507 and "3 MB" in text
        whole = PART % b"files" + b"3" * 2_000_000 + END
        body = f"{len(whole):x}\r\n".encode() + whole + b"\r\n0\r\n\r\n"
        answer, _ = sent(page, "upload", FORM, "Transfer-Encoding: chunked\r\n", body, 1)
        assert answer.split()[1] == b"507" and left_over(page) == []
        (page.uploads / "photo").write_bytes(bytes(900_000))
        assert upload(page, b"4")[0] in (200, 507)
        assert "Traceback" not in page.log.read_text()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can mount a small disk; this system's user may not")
def test_a_full_disk_is_told_in_a_sentence_and_leaves_nothing(tmp_path):
    (tmp_path / "uploads").mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "x", tmp_path / "uploads"], capture_output=True)
    if mount.returncode != 0:
        pytest.skip(f"this system mounts nothing: {mount.stderr.decode().strip()}")
    try:
        with guarded_page(tmp_path) as page:
            whole = PART % b"files" + b"3" * 5_000_000 + END
            body = f"{len(whole):x}\r\n".encode() + whole + b"\r\n0\r\n\r\n"
            answer, _ = sent(page, "upload", FORM, "Transfer-Encoding: chunked\r\n", body, 1)
            assert answer.split()[1] == b"507" and left_over(page) == []
            assert upload(page, b"photo")[0] == 200
            assert "Traceback" not in page.log.read_text()
            assert json.loads(upload(page, b"photo")[1])
    finally:
        subprocess.run(["umount", tmp_path / "uploads"], check=True)


def test_a_form_without_a_file_is_told_so(page):
    body = b'--x\r\nContent-Disposition: form-data; name="files"\r\n\r\nno file' + END
    connection = http.client.HTTPConnection("127.0.0.1", page.port, timeout=60)
    connection.request("POST", "/gradio_api/upload", body, {"Content-Type": FORM})
    with contextlib.closing(connection):
        assert connection.getresponse().status in (400, 422)


@pytest.mark.parametrize(("parameters", "is_taken"), [
    (b"boundary=x", True), (b"charset=UTF-8; boundary=x", True), (b'boundary=x; charset="utf-8"', True),
    (b"boundary=x; charset=undefined", False), (b"charset=utf-8; charset=idna; boundary=x", False),
    (b"charset*=utf-8''utf-7; boundary=x", False), (b"boundary=x;CHARSET=raw_unicode_escape", False),
    (b"boundary=x; charset=utf-8-sig", False), (b"boundary=x; charset*0=undef; charset*1=ined", False),
])  # fmt: skip
def test_forms_are_utf_8(parameters, is_taken):
    """Python knows codecs that fail in the midst of reading, and some that give names which no file can have."""
    assert has_other_charset({b"content-type": b"multipart/form-data; " + parameters}) is not is_taken
