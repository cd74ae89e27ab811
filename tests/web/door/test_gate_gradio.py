"""The gate before a real Gradio page and a real server: what the routes do for an owner and for a stranger."""

import gc
import json
import socket
import threading
import time
from contextlib import closing
from urllib.parse import quote

import gradio as gr
import httpx
import pytest
import uvicorn
from fastapi import FastAPI

from hrn_opt.web.door.access import Access, hash_password, hash_token, read_tokens, read_users
from hrn_opt.web.door.gate import Gate
from hrn_opt.web.door.owners import Owners
from hrn_opt.web.watch.logs import RequestLog

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("default"),  # of Gradio and its client
]
STARTS_WITHIN_S = 60
WAITS_S = 30


@pytest.fixture(scope="module")
def left():
    """What was deleted, as a tab was closed."""
    return threading.Event()


@pytest.fixture(scope="module")
def address(tmp_path_factory, left):
    root = tmp_path_factory.mktemp("served")
    with pytest.MonkeyPatch.context() as patch, socket.socket() as listening:
        patch.setenv("GRADIO_TEMP_DIR", str(root))
        app = gr.mount_gradio_app(
            FastAPI(), small_page(left), "/", enable_monitoring=False, run_history=False, footer_links=[]
        )
        users = f"ada:{hash_password('correct horse')},eve:{hash_password('staple')}"
        access = Access(read_users(users), read_tokens(f"ci:{hash_token('secret')}"))
        listening.bind(("127.0.0.1", 0))
        gate = RequestLog(Gate(app, access, Owners(root)))
        server = uvicorn.Server(uvicorn.Config(gate, log_config=None, access_log=False, timeout_graceful_shutdown=1))
        serving = threading.Thread(target=server.run, args=([listening],))
        serving.start()
        until = time.monotonic() + STARTS_WITHIN_S
        while not server.started:
            assert serving.is_alive() and time.monotonic() < until
            time.sleep(0.05)
        yield "http://{}:{}".format(*listening.getsockname())
        server.should_exit = True
        serving.join()
        gc.collect()  # Gradio leaves files open: warned of here, not in whatever test comes next


def small_page(left):
    with gr.Blocks(analytics_enabled=False) as page:
        photo, told = gr.Image(type="filepath"), gr.Textbox()
        gr.Button().click(lambda path: f"read {path[-6:]}", photo, told, api_name="create")
        page.unload(left.set)
    return page


@pytest.fixture
def ada(address):
    with closing(signed_in(address, "ada", "correct horse")) as client:
        yield client


@pytest.fixture
def eve(address):
    with closing(signed_in(address, "eve", "staple")) as client:
        yield client


def signed_in(address, name, password):
    client = httpx.Client(base_url=address, timeout=WAITS_S, trust_env=False)
    assert client.get("/").status_code == 303 and client.get("/config").status_code == 401
    assert client.post("/signin", data={"name": name, "password": password}).status_code == 303
    page = client.get("/")
    assert page.status_code == 200 and "gradio" in page.text
    return client


def upload(client, example_photo):
    files = {"files": ("me.jpg", example_photo.read_bytes(), "image/jpeg")}
    answer = client.post("/gradio_api/upload", files=files, headers={"Accept-Encoding": "br"})
    assert answer.status_code == 200
    return answer.json()[0]


def job(path, session):
    photo = {"path": path, "meta": {"_type": "gradio.FileData"}}
    return {"data": [photo], "fn_index": 0, "session_hash": session, "event_data": None, "trigger_id": None}


def status(client, method, route, content=None):
    """Without waiting for the answer's end: a heartbeat has none."""
    with client.stream(method, f"/gradio_api/{route}", json=content) as answer:
        return answer.status_code


def test_a_photo_is_uploaded_worked_on_and_read_by_its_owner(ada, example_photo):
    path = upload(ada, example_photo)
    assert ada.get(f"/gradio_api/file={quote(path)}").content == example_photo.read_bytes()
    assert ada.post("/gradio_api/queue/join", json=job(path, "adas")).status_code == 200
    events = []
    with ada.stream("GET", "/gradio_api/queue/data", params={"session_hash": "adas"}) as stream:
        for line in stream.iter_lines():
            if line.startswith("data: "):
                events.append(json.loads(line[6:]))
                if events[-1]["msg"] == "process_completed":
                    break
    assert events[-1]["success"] and events[-1]["output"]["data"] == ["read me.jpg"]


def test_a_stranger_gets_none_of_it(ada, eve, left, example_photo):
    path = upload(ada, example_photo)
    with ada.stream("GET", "/gradio_api/heartbeat/tab") as heartbeat:
        beats = heartbeat.iter_raw()  # kept: its end would close the tab
        assert heartbeat.status_code == 200 and next(beats)
        refused = [
            status(eve, "GET", f"file={quote(path)}"),
            status(eve, "GET", "heartbeat/tab"),
            status(eve, "GET", "queue/data?session_hash=tab"),
            status(eve, "POST", "queue/join", job(path, "eves")),
            status(eve, "POST", "queue/join", job(path, "tab")),
            status(eve, "POST", "cancel", {"session_hash": "tab", "fn_index": 0, "event_id": "x"}),
        ]
        assert refused == [403] * len(refused)
        assert not left.is_set()
        with httpx.Client(base_url=str(ada.base_url), trust_env=False) as nobody:
            assert status(nobody, "GET", f"file={quote(path)}") == status(nobody, "GET", "heartbeat/tab") == 401
        assert not left.wait(0.5)
    assert left.wait(WAITS_S)  # the owner's own tab, once closed


def test_programs_with_a_token_call_by_name(address, ada, example_photo):
    headers = {"Authorization": "Bearer secret"}
    with httpx.Client(base_url=address, timeout=WAITS_S, trust_env=False, headers=headers) as program:
        path = upload(program, example_photo)
        body = {"data": [{"path": path, "meta": {"_type": "gradio.FileData"}}]}
        event = program.post("/gradio_api/call/create", json=body).json()["event_id"]
        assert ada.get(f"/gradio_api/call/create/{event}").status_code == 403
        assert "read me.jpg" in program.get(f"/gradio_api/call/create/{event}").text


def test_gradios_own_client_works_with_a_token(address, example_photo):
    from gradio_client import Client, handle_file

    client = Client(address, headers={"Authorization": "Bearer secret"}, verbose=False)
    assert client.predict(handle_file(str(example_photo)), api_name="/create") == "read ut.jpg"
    client.close()


def test_a_visitor_who_signs_out_is_a_stranger(ada):
    assert ada.post("/signout").status_code == 303
    assert ada.get("/config").status_code == 401 and ada.get("/").headers["location"] == "/signin"
