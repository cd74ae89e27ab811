"""Faults that took load, or a broken model, to show, tried again on the real server; rows as in test_service.py."""

import io
import json
import os
import shutil
import struct
import threading
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.attacks.strangers import (
    MB,
    face,
    figure,
    joined,
    outcome,
    raw,
    ready,
    served_folder,
    timed,
    uploaded,
    visiting,
    wait_until,
)
from tests.browser import visits
from tests.browser.visits import ROOT, serving
from tests.photo.pictures import encoded

pytestmark = pytest.mark.slow
BOMBS = 10
BUSY = 12
FACES = 15
CALLS, WARM_CALLS = 150, 50


@pytest.fixture
def photo(example_photo):
    return example_photo.read_bytes() + os.urandom(8)


def scan_bomb():
    """A progressive JPEG of 2.4 MB with 20,000 scans."""
    content = encoded(Image.new("RGB", (1600, 1200), "gray"), "JPEG", progressive=True)
    last = content.rindex(b"\xff\xda")
    scan = content[last:-2]
    return content[:-2] + scan * (2_400_000 // len(scan)) + b"\xff\xd9"


def strip_bomb():
    """A TIFF of 40 MB with 10 million strips."""
    strips = np.full(10_000_000, 8, "<u4").tobytes()
    tags = {256: 512, 257: 512, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: 1, 279: 8}
    entries = b""
    for tag, value in tags.items():
        count, value = (10_000_000, 8) if tag in (273, 279) else (1, value)
        entries += struct.pack("<HHII", tag, 4, count, value)
    start = 8 + len(strips)
    return struct.pack("<2sHI", b"II", 42, start) + strips + struct.pack("<H", len(tags)) + entries + bytes(4)


def test_3_bombs_keep_an_honest_visitor_hardly_waiting(tmp_path, photo, record_property):
    bombs = [scan_bomb(), strip_bomb()]
    with (
        serving(tmp_path, "--model", "builtin") as served,
        visiting(ready(served).address) as eve,
        visiting(served.address) as honest,
    ):
        alone_s = max(timed(lambda: face(honest, photo).raise_for_status()) for _ in range(3))
        for number in range(BOMBS):
            path = uploaded(eve, bombs[number % 2] + bytes([number]), "bomb.jpg")
            assert joined(eve, path, f"bomb{number}").status_code == 200
        beside_s = timed(lambda: face(honest, photo).raise_for_status())
        health_s = timed(lambda: honest.get("/healthz").raise_for_status())
        told = [outcome(eve, f"bomb{number}")["output"]["error"] for number in range(BOMBS)]
        server_mb = served.process.memory_info().rss / MB
        rss_mb = sum(one.memory_info().rss for one in served.process.children(recursive=True)) / MB
        for number in range(BOMBS):
            joined(eve, uploaded(eve, bombs[number % 2], "bomb.jpg"), f"more{number}")
    figure(
        record_property, 3, alone_s=alone_s, beside_s=beside_s, health_s=health_s, server_mb=server_mb, all_mb=rss_mb
    )
    # 3 s are wanted, and printed; a machine that is busy with other things takes longer.
    assert beside_s < alone_s + 30 and all("parts" in one or "damaged" in one for one in told), told
    assert server_mb < 500


def test_7_all_faces_of_many_beside_busy_clients(tmp_path, photo, record_property):
    one = Image.open(io.BytesIO(photo)).convert("RGB").crop((120, 20, 340, 300))
    group = Image.new("RGB", (5 * 260, 3 * 320), (140, 150, 160))
    for number in range(FACES):
        group.paste(one, (20 + number % 5 * 260, 20 + number // 5 * 320))
    ended, counts, answers = threading.Event(), [0] * BUSY, []

    def keep_busy(number):
        with visiting(served.address) as visitor:
            while not ended.is_set():
                face(visitor, photo, texture_size="512", format="png").raise_for_status()
                counts[number] += 1

    with serving(tmp_path, "--model", "builtin") as served, ThreadPoolExecutor(BUSY) as pool:
        busy = [pool.submit(keep_busy, number) for number in range(BUSY)]
        with visiting(ready(served).address) as ada:
            wait_until(lambda: all(counts))
            fields = {"face": "all", "format": "zip", "texture_size": "512"}
            seconds = timed(lambda: answers.append(face(ada, encoded(group, "JPEG", quality=95), **fields)))
        ended.set()
        for worker in busy:
            worker.result()
    with zipfile.ZipFile(io.BytesIO(answers[0].content)) as archive:
        made = sum(name.endswith(".obj") for name in archive.namelist())
    figure(record_property, 7, faces=made, seconds=seconds, beside=sum(counts), least_of_a_client=min(counts))
    assert made == FACES and min(counts) >= 1


def test_9_uploads_past_the_quota_are_refused_and_cut_ones_leave_nothing(tmp_path, record_property):
    flags = ("--model", "builtin", "--most-disk-mb", "30", "--max-upload-mb", "10")
    head = (
        b"POST /gradio_api/upload HTTP/1.1\r\nHost: x\r\nContent-Length: 8000000\r\n"
        b"Content-Type: multipart/form-data; boundary=x\r\n\r\n"
        b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.jpg"\r\n\r\n'
    )
    with serving(tmp_path, *flags) as served, visiting(served.address) as visitor:
        root = served_folder(served)
        for _ in range(5):
            assert raw(served.address, head + bytes(MB), wait_s=0.2) == b""
        ended_s = timed(lambda: wait_until(lambda: not list(root.glob("tmp*"))))
        statuses = []
        for number in range(8):
            answer = uploaded(visitor, bytes([number]) + os.urandom(8 * MB))
            statuses.append(answer if isinstance(answer, int) else 200)
        problem = face(visitor, os.urandom(8 * MB))
        held_mb = sum(path.stat().st_size for path in root.rglob("*") if path.is_file()) / MB
    figure(record_property, 9, statuses=statuses, held_mb=held_mb, part_files_gone_after_s=ended_s)
    assert statuses[:3] == [200] * 3 and set(statuses[4:]) == {507} and held_mb < 33
    assert problem.status_code == 507 and "MB" in problem.json()["detail"]


@pytest.mark.parametrize("damage", ["missing", "cut", "garbage"])
@pytest.mark.parametrize("name", ["weights", "face_mesh"])
def test_12_weights_that_do_not_load_are_told(tmp_path, monkeypatch, photo, record_property, name, damage):
    copy = tmp_path / "copy"
    shutil.copytree(ROOT / "hrn_opt", copy / "hrn_opt", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "app.py", copy)
    weights = copy / "hrn_opt" / "builtin" / f"{name}.safetensors"
    content = weights.read_bytes()
    weights.unlink() if damage == "missing" else weights.write_bytes(content[:9999] if damage == "cut" else b"x" * 9999)
    monkeypatch.setattr(visits, "ROOT", copy)
    with serving(tmp_path, "--model", "builtin") as served:
        with httpx.Client(base_url=served.address, timeout=60, trust_env=False) as http:
            wait_until(lambda: "does not load" in http.get("/readyz").text)
            not_ready, problem, alive = http.get("/readyz"), face(http, photo), http.get("/healthz")
        with visiting(served.address) as visitor:
            joined(visitor, uploaded(visitor, photo), "tab")
            told = outcome(visitor, "tab")["output"]["error"]
    figure(record_property, 12, readyz=not_ready.status_code, photo=problem.status_code, told=json.dumps(told))
    assert not_ready.status_code == 503 and alive.status_code == 200 and problem.status_code == 503
    for text in (told, problem.text, not_ready.text):
        assert str(tmp_path) not in text and "Traceback" not in text and ".py" not in text
    assert problem.json()["error"] == "ModelDamaged" and "Something went wrong" not in told


def test_14_programs_calls_leave_no_memory_behind(tmp_path, photo, record_property):
    from gradio_client import Client, handle_file

    path = tmp_path / "me.jpg"
    path.write_bytes(photo)
    with serving(tmp_path, "--model", "builtin") as served:
        resident = []
        for number in range(CALLS + 1):
            if number in (WARM_CALLS, CALLS):
                resident.append(served.process.memory_info().rss / MB)
            if number % 10 == 0:
                client = Client(ready(served).address, verbose=False, download_files=str(tmp_path / "got"))
            client.predict(handle_file(str(path)), texture_size=512, want="texture", api_name="/create")
            if number % 10 == 9:
                client.close()
        client.close()
        time.sleep(1)
    per_100_mb = (resident[1] - resident[0]) / (CALLS - WARM_CALLS) * 100
    figure(record_property, 14, calls=CALLS, grown_mb_per_100=per_100_mb, resident_mb=resident[1])
    assert per_100_mb < 2
