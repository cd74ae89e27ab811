"""POST /api/v1/faces on the real server: files, events, problems, and nothing left behind."""

import io
import json
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest
from PIL import Image

import hrn_opt
from tests.browser.visits import GIVES_UP_AFTER_S, serving

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("api"), "--model", "builtin") as served:
        yield served


@pytest.fixture(scope="module")
def http(served):
    with httpx.Client(base_url=served.address, timeout=GIVES_UP_AFTER_S) as http:
        yield http


@pytest.fixture
def ask(http, example_photo):
    def ask(photo=None, name="me.jpg", headers=None, **fields):
        content = example_photo.read_bytes() if photo is None else photo
        return http.post("/api/v1/faces", files={"photo": (name, content)}, data=fields, headers=headers)

    return ask


def folders(served):
    """Of visitors, below the served folder."""
    (root,) = served.folder.glob("hrn_opt_*/files")
    return {path.name for path in root.iterdir() if len(path.name) == 22}


def left_as(served, before):
    """Nothing is left of the request; its folder goes when the answer has gone out."""
    until = time.monotonic() + GIVES_UP_AFTER_S
    while folders(served) != before:
        assert time.monotonic() < until, folders(served) - before
        time.sleep(0.02)
    return True


def test_a_photo_becomes_a_glb(ask, served):
    before = folders(served)
    answer = ask()
    assert answer.status_code == 200 and answer.content[:4] == b"glTF"
    assert answer.headers["content-type"] == "model/gltf-binary"
    assert 'filename="me.glb"' in answer.headers["content-disposition"]
    assert "texture;dur=" in answer.headers["server-timing"] and answer.headers["cache-control"] == "no-store"
    assert left_as(served, before)


@pytest.mark.parametrize("fields", [{"format": "png"}, {"headers": {"Accept": "image/png, */*;q=0.5"}}])
def test_the_texture_is_the_librarys(ask, example_photo, fields):
    texture = hrn_opt.load("builtin").reconstruct(example_photo, texture_size=512).texture.rgb
    answer = ask(texture_size="512", **fields)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(answer.content)).convert("RGB")), texture)


@pytest.mark.parametrize(("fields", "names"), [
    ({"format": "obj"}, {"me.obj", "me.mtl", "me.png"}),
    ({"format": "zip", "face": "all"}, {"me.png", "me.glb", "me.clay.glb", "me.obj", "me.mtl", "me.overlay.jpg"}),
])  # fmt: skip
def test_zips_hold_what_they_should(ask, fields, names):
    with zipfile.ZipFile(io.BytesIO(ask(texture_size="512", **fields).content)) as archive:
        assert set(archive.namelist()) == names


def events_of(answer):
    for block in answer.text.strip().split("\n\n"):
        name, data = block.split("\n")
        yield name.removeprefix("event: "), json.loads(data.removeprefix("data: "))


def test_events_tell_the_stages_and_where_the_file_is(ask, http):
    answer = ask(headers={"Accept": "text/event-stream"}, texture_size="512")
    *stages, (last, done) = events_of(answer)
    assert [data["stage"] for name, data in stages if name == "stage"] == [
        "find",
        "align",
        "shape",
        "texture",
        "assemble",
    ]
    assert last == "done" and done["model"] == "builtin" and done["url"].endswith("/me.glb")
    assert http.get(done["url"]).content[:4] == b"glTF"
    stranger = {"Cookie": "hrn_opt=nobody", "X-Forwarded-For": "10.0.0.9"}
    assert http.get(done["url"], headers=stranger).status_code == 200  # no cookie: the address decides
    assert http.get(done["url"].replace("me.glb", "../../../../etc/passwd")).status_code == 404
    assert http.get(done["url"].replace("/files/", "/files/x")).status_code == 404


def test_events_come_as_they_happen(http, example_photo):
    """Not collected to the end by a layer on their way."""
    files = {"photo": ("me.jpg", example_photo.read_bytes())}
    data, times = {"format": "zip", "turntable": "true", "texture_size": "4096"}, {}
    with http.stream(
        "POST", "/api/v1/faces", files=files, data=data, headers={"Accept": "text/event-stream"}
    ) as answer:
        for line in answer.iter_lines():
            if line.startswith("event:"):
                times.setdefault(line, time.monotonic())
    assert times["event: done"] - times["event: stage"] > 0.2  # the turntable alone takes seconds


@pytest.mark.parametrize(("photo", "fields", "status", "error"), [
    (b"no picture", {}, 422, "PhotoUnreadable"),
    (b"", {}, 422, "PhotoEmpty"),
    (None, {"texture_size": "7"}, 422, "RequestInvalid"),
    (None, {"texture_size": "256"}, 422, "OptionInvalid"),
    (None, {"face": "0"}, 422, "RequestInvalid"),
    (None, {"face": "3"}, 422, "FaceNotThere"),
    (None, {"face": "all"}, 422, "OptionInvalid"),
    (None, {"format": "exe"}, 422, "RequestInvalid"),
    (None, {"model": "hrn"}, 422, "ModelMissing"),
])  # fmt: skip
def test_problems_are_details_and_nothing_is_left(ask, served, photo, fields, status, error):
    before = folders(served)
    answer = ask(photo, **fields)
    problem = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.status_code, problem["status"], problem["error"]) == (status, status, error)
    assert problem["type"] == "about:blank" and problem["title"] and "/tmp" not in answer.text
    assert left_as(served, before)


def test_a_problem_among_events_is_the_last_one(ask, served):
    before = folders(served)
    answer = ask(b"no picture", headers={"Accept": "text/event-stream"})
    ((name, problem),) = events_of(answer)
    assert answer.status_code == 200 and name == "problem" and problem["error"] == "PhotoUnreadable"
    assert left_as(served, before)


def test_an_unknown_route_or_method_is_a_problem(http):
    for answer in (http.get("/api/v1/nothing"), http.get("/api/v1/faces"), http.delete("/api/v1/faces")):
        assert answer.status_code == 404 and answer.headers["content-type"] == "application/problem+json"


def test_the_description_and_its_page_name_nothing_elsewhere(http, served):
    description = http.get("/api/v1/openapi.json").json()
    assert set(description["paths"]) == {"/api/v1/faces", "/api/v1/files/{folder}/{name}"}
    page = http.get("/api/v1/docs").text
    for name in ("texture_size", "precision", "turntable", "photo"):
        assert f"<code>{name}</code>" in page
    assert served.address in page and page.count("http") == page.count(served.address)


def test_photos_of_one_client_at_once_all_come_back(ask, served):
    with ThreadPoolExecutor(64) as pool:
        answers = list(pool.map(lambda number: ask(name=f"{number}.jpg", texture_size="512"), range(64)))
    assert [answer.status_code for answer in answers] == [200] * 64
    named = [answer.headers["content-disposition"] for answer in answers]
    assert all(f'"{number}.glb"' in name for number, name in enumerate(named))


def test_a_client_that_leaves_frees_the_machine(served, http, example_photo):
    with httpx.Client(base_url=served.address, timeout=0.5) as impatient, pytest.raises(httpx.TimeoutException):
        files = {"photo": ("me.jpg", example_photo.read_bytes())}
        impatient.post(
            "/api/v1/faces", files=files, data={"format": "zip", "turntable": "true", "texture_size": "4096"}
        )
    until = time.monotonic() + GIVES_UP_AFTER_S
    while http.get("/healthz").json()["jobs"]:
        assert time.monotonic() < until
        time.sleep(0.05)


def test_metrics_count_what_was_done(ask, http):
    ask(b"no picture")
    text = http.get("/metrics").text
    assert 'hrn_opt_refusals_total{error="PhotoUnreadable"}' in text
    assert 'hrn_opt_stage_seconds_count{stage="texture"}' in text
    assert 'hrn_opt_request_seconds_count{method="POST",route="/api/v1/faces",status="200"}' in text
    resident = [line.split()[1] for line in text.splitlines() if line.startswith("hrn_opt_resident_bytes{")]
    assert len(resident) == 2 and all(float(size) > 50e6 for size in resident)
