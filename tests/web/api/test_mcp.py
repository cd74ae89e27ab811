"""POST /api/v1/mcp on the real server: the protocol's messages as clients send them, the same faces as elsewhere."""

import base64
import re
import time

import httpx
import pytest

from hrn_opt.web.door.access import hash_token
from tests.browser.visits import GIVES_UP_AFTER_S, serving

pytestmark = pytest.mark.slow

ACCEPT = {"Accept": "application/json, text/event-stream"}
# As the official Python client 2.3 sends them.
PROBE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "server/discover",
    "params": {
        "_meta": {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientInfo": {"name": "mcp", "version": "0.1.0"},
            "io.modelcontextprotocol/clientCapabilities": {},
        }
    },
}
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 2,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "mcp", "version": "0.1.0"},
    },
}
INITIALIZED = {"jsonrpc": "2.0", "method": "notifications/initialized"}


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("mcp"), "--model", "builtin", "--mcp", "--max-upload-mb", "3") as served:
        yield served


@pytest.fixture(scope="module")
def http(served):
    with httpx.Client(base_url=served.address, timeout=GIVES_UP_AFTER_S) as http:
        yield http


@pytest.fixture
def send(http):
    def send(message, **headers):
        return http.post("/api/v1/mcp", json=message, headers=ACCEPT | headers)

    return send


def message_of(photo, **arguments):
    arguments = {"photo": base64.b64encode(photo).decode(), **arguments}
    parameters = {"name": "make_face", "arguments": arguments, "_meta": {"progressToken": 3}}
    return {"jsonrpc": "2.0", "id": 3, "method": "tools/call", "params": parameters}


@pytest.fixture
def call(send, example_photo):
    """What the tool answers: its text, its file, whether it failed."""

    def call(photo=None, **arguments):
        answer = send(message_of(example_photo.read_bytes() if photo is None else photo, **arguments))
        assert answer.status_code == 200 and answer.json()["id"] == 3, answer.text
        result = answer.json()["result"]
        text, *files = result["content"]
        return text["text"], files[0] if files else None, result.get("isError", False)

    return call


def folders(served):
    (root,) = served.folder.glob("hrn_opt_*/files")
    return {path.name for path in root.iterdir() if len(path.name) == 22}


def test_a_client_shakes_hands(send, http):
    refused = send(PROBE, **{"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "server/discover"})
    error = refused.json()["error"]
    assert refused.status_code == 400 and error["code"] == -32022 and "2025-11-25" in error["data"]["supported"]
    greeting = send(INITIALIZE).json()
    assert greeting["id"] == 2 and greeting["result"]["protocolVersion"] == "2025-11-25"
    assert greeting["result"]["capabilities"] == {"tools": {}} and greeting["result"]["serverInfo"]["name"] == "hrn_opt"
    accepted = send(INITIALIZED, **{"MCP-Protocol-Version": "2025-11-25"})
    assert (accepted.status_code, accepted.content) == (202, b"") and "mcp-session-id" not in accepted.headers
    stream = http.get("/api/v1/mcp", headers={"Accept": "text/event-stream"})
    assert stream.status_code == 405 and stream.headers["allow"] == "POST"


@pytest.mark.parametrize(("asked", "agreed"), [("2025-06-18", "2025-06-18"), ("2024-11-05", "2025-11-25")])
def test_the_version_is_agreed_on(send, asked, agreed):
    message = INITIALIZE | {"params": INITIALIZE["params"] | {"protocolVersion": asked}}
    assert send(message).json()["result"]["protocolVersion"] == agreed


def test_the_tool_describes_itself(send):
    (tool,) = send({"jsonrpc": "2.0", "id": "a", "method": "tools/list"}).json()["result"]["tools"]
    properties = tool["inputSchema"]["properties"]
    assert tool["name"] == "make_face" and tool["inputSchema"]["required"] == ["photo"]
    assert set(properties) == {"photo", "format", "face", "texture_size", "model"}
    assert properties["format"]["enum"] == ["glb", "png", "obj", "zip"]
    assert send({"jsonrpc": "2.0", "id": 0, "method": "ping", "params": {}}).json() == {
        "jsonrpc": "2.0",
        "id": 0,
        "result": {},
    }


@pytest.mark.parametrize("fields", [{"texture_size": 512}, {"texture_size": 2048}, {"format": "png"}])
def test_the_file_is_the_one_that_the_endpoint_makes(call, http, served, example_photo, fields):
    before = folders(served)
    text, file, failed = call(**fields)
    left = folders(served) - before
    form = {"photo": ("photo", example_photo.read_bytes())}
    expected = http.post("/api/v1/faces", files=form, data={name: str(value) for name, value in fields.items()})
    assert re.match(r"Made 1 face in \d+\.\d s with the model builtin\.", text) and not failed
    if len(expected.content) > 1_000_000:
        assert file["type"] == "resource_link" and file["uri"].startswith(f"{served.address}/api/v1/files/")
        assert http.get(file["uri"]).content == expected.content
        assert len(left) == 1 and left.pop() in file["uri"]
    else:
        file = file["resource"]
        assert base64.b64decode(file["blob"]) == expected.content
        assert not left
    assert file["mimeType"] == expected.headers["content-type"]


def test_all_faces_come_in_a_zip(call):
    text, file, failed = call(format="zip", face="all", texture_size=512)
    assert text.startswith("Made 1 face") and not failed and "zip" in str(file)


@pytest.mark.parametrize(("arguments", "sentence"), [
    ({"photo": b"no picture"}, "^photo is not a picture"),
    ({"photo": b""}, "^photo .*empty"),
    ({"photo": bytes(3_100_000)}, "^photo .* 3 MB"),
    ({"face": "3"}, "face"),
    ({"face": 0}, "^face: "),
    ({"face": "all"}, "format=zip only"),
    ({"texture_size": 7}, "^texture_size: "),
    ({"format": "exe"}, "^format: "),
    ({"model": "hrn"}, "fetch"),
    ({"address": "https://example.org/me.jpg"}, "^address: "),
])  # fmt: skip
def test_an_error_is_a_result_with_its_sentence_and_nothing_is_left(call, served, arguments, sentence):
    before = folders(served)
    text, file, failed = call(**arguments)
    assert failed and file is None and re.search(sentence, text) and "/tmp" not in text and "\n" not in text
    assert folders(served) <= before


def test_an_address_is_not_fetched(send):
    parameters = {"name": "make_face", "arguments": {"photo": "http://127.0.0.1:9/me.jpg"}}
    result = send({"jsonrpc": "2.0", "id": 3, "method": "tools/call", "params": parameters}).json()["result"]
    assert result["isError"] and "fetches nothing" in result["content"][0]["text"]


@pytest.mark.parametrize(("message", "status", "code"), [
    ([INITIALIZE], 400, -32600),
    ("x", 400, -32600),
    ({"id": 1, "method": "ping"}, 400, -32600),
    ({"jsonrpc": "2.0", "id": None, "method": "ping"}, 400, -32600),
    ({"jsonrpc": "2.0", "id": 1, "method": "nothing"}, 200, -32601),
    ({"jsonrpc": "2.0", "id": 1, "method": ["ping"]}, 200, -32601),
    ({"jsonrpc": "2.0", "id": 1, "method": "ping", "params": [1]}, 200, -32602),
    ({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "other"}}, 200, -32602),
])  # fmt: skip
def test_other_messages_are_errors_of_the_protocol(send, message, status, code):
    answer = send(message)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


@pytest.mark.parametrize("message", [
    b'{"jsonrpc": "2.0", "id": "\\ud800", "method": "ping"}',
    b'{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "make_face", "arguments": '
    b'{"\\ud800": 1}}}',
    b'{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "make_face", "arguments": "\\ud800"}}',
    b'{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "make_face", "arguments": '
    b'{"photo": "\\ud800", "face": "\\ud800", "format": "\\ud800"}}}',
])  # fmt: skip
def test_half_a_surrogate_pair_breaks_nothing(http, message):
    answer = http.post("/api/v1/mcp", content=message)
    assert answer.status_code == 200 and "result" in answer.json()


def test_what_is_no_json_or_too_large_is_refused(http):
    assert http.post("/api/v1/mcp", content=b"{").json()["error"]["code"] == -32700
    for large in (b'["' + b"A" * 6_000_000 + b'"]', b"[" + b"1," * 1_000_000 + b"1]"):
        answer = http.post("/api/v1/mcp", content=large)
        assert answer.status_code == 413 and answer.json()["detail"] == "That is too large."
        assert answer.headers["content-type"] == "application/problem+json"


def test_other_sites_pages_are_refused(send):
    assert send(INITIALIZE, Origin="https://elsewhere.example").status_code == 403


def test_a_client_that_leaves_frees_the_machine(served, http, example_photo):
    message = message_of(example_photo.read_bytes(), format="zip", texture_size=4096)
    before = folders(served)
    with httpx.Client(base_url=served.address, timeout=0.2) as impatient, pytest.raises(httpx.TimeoutException):
        impatient.post("/api/v1/mcp", json=message)
    until = time.monotonic() + GIVES_UP_AFTER_S
    while http.get("/healthz").json()["jobs"] or folders(served) - before:
        assert time.monotonic() < until
        time.sleep(0.05)


def test_the_log_and_the_metrics_know_the_route(http):
    assert 'route="/api/v1/mcp",status="200"' in http.get("/metrics").text


def test_a_token_is_asked_for_and_opens_what_it_made(tmp_path, example_photo):
    tokens = f"ci:{hash_token('secret')},other:{hash_token('another')}"
    message = message_of(example_photo.read_bytes(), texture_size=4096)
    with (
        serving(tmp_path, "--model", "builtin", HRN_OPT_TOKENS=tokens, HRN_OPT_MCP="yes") as served,
        httpx.Client(base_url=served.address, timeout=GIVES_UP_AFTER_S) as http,
    ):
        refused = http.post("/api/v1/mcp", json=message)
        assert refused.status_code == 401 and refused.headers["www-authenticate"].startswith("Bearer")
        assert not folders(served)
        mine, anothers = ({"Authorization": f"Bearer {token}"} for token in ("secret", "another"))
        _, file = http.post("/api/v1/mcp", json=message, headers=mine).json()["result"]["content"]
        statuses = [http.get(file["uri"], headers=headers).status_code for headers in (mine, anothers, {})]
        assert statuses == [200, 404, 401]


def test_without_mcp_there_is_nothing(tmp_path):
    with serving(tmp_path, "--model", "builtin") as served:
        assert httpx.post(f"{served.address}/api/v1/mcp", json=INITIALIZE).status_code == 404
        assert httpx.get(f"{served.address}/api/v1/mcp").status_code == 404
