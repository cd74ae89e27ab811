"""The page's endpoint as the README calls it: the library's texture, pixel for pixel, and the command line's too."""

import re
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import hrn_opt

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def address():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "app.py", "--port", str(port)], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        until = time.monotonic() + 90
        with socket.socket() as probe:
            while probe.connect_ex(("127.0.0.1", port)) and time.monotonic() < until and process.poll() is None:
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


@pytest.fixture(scope="module")
def texture(example_photo) -> np.ndarray:
    return hrn_opt.load("builtin").reconstruct(example_photo, texture_size=512).texture.rgb


def pixels(path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"))


def test_python_client(address, example_photo, texture, tmp_path):
    from gradio_client import Client, handle_file

    client = Client(address, verbose=False, download_files=tmp_path)
    status_html, texture_png, glb, obj_zip, everything_zip = client.predict(
        handle_file(str(example_photo)), texture_size=512, want="mesh", face="1", model="auto", precision="auto",
        api_name="/create",
    )  # fmt: skip
    assert "Done in" in status_html and np.array_equal(pixels(texture_png), texture)
    names = [Path(path).name for path in (texture_png, glb, obj_zip, everything_zip)]
    assert names == ["astronaut.png", "astronaut.glb", "astronaut.zip", "astronaut.everything.zip"]
    assert Path(glb).read_bytes().startswith(b"glTF")


def test_photos_of_one_client_at_once_all_come_back(address, example_photo, texture, tmp_path):
    from gradio_client import Client, handle_file

    client = Client(address, verbose=False, download_files=tmp_path)
    jobs = [client.submit(handle_file(str(example_photo)), texture_size=512, api_name="/create") for _ in range(8)]
    for job in jobs:
        status_html, texture_png, *_ = job.result()
        assert "Done in" in status_html and np.array_equal(pixels(texture_png), texture)


@pytest.mark.parametrize("face", ["0", "-1", "two", "9"])
def test_a_face_that_is_not_there_is_refused(address, example_photo, tmp_path, face):
    from gradio_client import Client, handle_file

    job = Client(address, verbose=False, download_files=tmp_path).submit(
        handle_file(str(example_photo)), face=face, api_name="/create"
    )
    assert job.exception(timeout=60) is not None
    status_html = job.outputs()[-1][0]
    assert "server's log" not in status_html and 'class="note failed"' in status_html
    assert face != "9" or "no face number 9: 1 face was found" in status_html


def test_curl(address, example_photo, tmp_path):
    """As the README writes it."""
    glb_line, events_line = re.findall(r"```sh\n(curl .*?)\n```", (ROOT / "README.md").read_text(encoding="utf-8"))
    for line, found in ((glb_line, b""), (events_line, b"event: done")):
        line = line.replace("http://127.0.0.1:8080", address).replace("me.jpg", str(example_photo))
        said = subprocess.run(["bash", "-c", line], cwd=tmp_path, capture_output=True, check=True, timeout=60).stdout
        assert found in said
    assert (tmp_path / "face.glb").read_bytes().startswith(b"glTF")


def test_command_line(example_photo, texture, tmp_path):
    arguments = ["-m", "hrn_opt", "make", str(example_photo), "--out", str(tmp_path), "--texture-size", "512"]
    subprocess.run([sys.executable, *arguments, "--model", "builtin"], cwd=ROOT, check=True, timeout=60)
    assert np.array_equal(pixels(tmp_path / "astronaut.png"), texture)


def test_the_page_answers_while_a_photo_computes(address, example_photo, tmp_path):
    """A loop that computes answers once between two stages, and not at all during one."""
    import httpx
    from gradio_client import Client, handle_file

    answers = Counter()
    with httpx.Client(base_url=address, timeout=60) as http:
        client = Client(address, verbose=False, download_files=tmp_path)
        job = client.submit(handle_file(str(example_photo)), want="turntable", api_name="/create")
        while not job.done():
            if http.get("/healthz").raise_for_status().json()["jobs"]:
                answers[len(job.outputs())] += 1
        assert "Done in" in job.result()[0]
    assert max(answers.values()) >= 10, answers
