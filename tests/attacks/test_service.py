"""Faults that an attack on the served page found, tried again on the real server, by their rows in the list of it.

Other tests hold the rest: photos of one client at once (2) and the command line's texture, tests/web/test_endpoint.py;
settings (11) and proxies in the environment (16), tests/web/test_server.py; nginx below a path (19),
tests/web/door/test_proxy.py. Rows 3, 7, 9 and 14, which take load, are in test_load.py.
"""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from hrn_opt.web.door.access import hash_password
from tests.attacks.fetching import fetch_tries
from tests.attacks.strangers import (
    MB,
    face,
    figure,
    held_open,
    joined,
    outcome,
    p95,
    raw,
    ready,
    timed,
    uploaded,
    visiting,
    wait_until,
)
from tests.browser.visits import ROOT, serving

pytestmark = pytest.mark.slow
REFUSED = {400, 403, 404}
UNSHARE = (["unshare", "--net"], ["unshare", "--net", "--map-root-user"])


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("served"), "--model", "builtin") as served:
        yield ready(served)


@pytest.fixture(scope="module")
def closed(tmp_path_factory):
    """A server with one user, ada."""
    users = {"HRN_OPT_USERS": f"ada:{hash_password('correct horse')}"}
    with serving(tmp_path_factory.mktemp("closed"), "--host", "0.0.0.0", "--model", "builtin", **users) as served:
        yield ready(served)


@pytest.fixture
def photo(example_photo):
    """The visitor's own: that of the page is everybody's."""
    return example_photo.read_bytes() + os.urandom(8)


def test_1_a_body_that_contradicts_its_length_costs_no_memory(served, record_property):
    head = b"POST /gradio_api/run/predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    chunk = b"%x\r\n%s\r\n" % (MB, b"1" * MB)
    before = served.process.memory_info().rss
    answers = [
        raw(served.address, head + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", *[chunk] * 50),
        raw(served.address, head + b"Transfer-Encoding: chunked\r\n\r\n", *[chunk] * 50),
        raw(served.address, head + b"Content-Length: 50000000\r\n\r\n", *[b"1" * MB] * 50),
    ]
    grown_mb = (served.process.memory_info().rss - before) / MB
    figure(record_property, 1, statuses=[answer[9:12].decode() for answer in answers], grown_mb=grown_mb)
    assert grown_mb < 20
    assert all(answer[9:12] in (b"", b"400", b"413") for answer in answers)  # "": the line was cut


def test_4_no_address_is_fetched(served, record_property):
    statuses = fetch_tries(served.address, "http://192.0.2.7:8000/secret.jpg")  # an address for examples
    figure(record_property, 4, tries=len(statuses), refused=sum(status in REFUSED for status in statuses))
    assert set(statuses) <= REFUSED


def test_4_nor_where_the_machine_has_a_public_one(tmp_path, record_property):
    """Somebody answers there, and nobody is asked."""
    unshare = next((way for way in UNSHARE if _runs([*way, "ip", "link", "set", "lo", "up"])), None)
    if unshare is None:
        pytest.skip("this system gives no network of one's own")
    command = [*unshare, sys.executable, "-m", "tests.attacks.fetching", tmp_path]
    told = json.loads(subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, timeout=300).stdout)
    figure(record_property, 4, tries_in_a_network=len(told["statuses"]), fetched=len(told["asked"]))
    assert set(told["statuses"]) <= REFUSED and not told["asked"]


def _runs(command):
    try:
        return subprocess.run(command, capture_output=True, timeout=60).returncode == 0
    except OSError:
        return False


def _load_page(address):
    with httpx.Client(base_url=address, timeout=60, trust_env=False) as visitor:
        page = visitor.get("/")
        assets = re.findall(r'(?:src|href)="\./([^"]+)"', page.text)
        assert assets and all(visitor.get(asset).status_code == 200 for asset in assets)


def test_5_a_thousand_half_sent_requests_keep_nobody_waiting(served, record_property):
    with held_open(served.address, b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ", 1000) as count_opened:
        seconds = [timed(lambda: _load_page(served.address)) for _ in range(20)]
        opened = count_opened()
    figure(record_property, 5, opened=opened, page_p95_s=p95(seconds), log_kb=_log_bytes(served) / 1000)
    # A second is wanted, and printed; a busy machine takes longer. The fault was a page that never came.
    assert opened >= 1000 and p95(seconds) < 10 and _log_bytes(served) < MB


def _log_bytes(served):
    return (served.folder / "server.log").stat().st_size


def test_6_guessers_keep_nobody_waiting_and_are_slowed_down(closed, record_property):
    ended, statuses = threading.Event(), []

    def guess(number):
        with httpx.Client(base_url=closed.address, timeout=60, trust_env=False) as guesser:
            while not ended.is_set():
                form = {"name": "ada", "password": f"guess {number}"}
                statuses.append(guesser.post("/signin", data=form).status_code)
                time.sleep(0.25)

    with ThreadPoolExecutor(16) as pool, httpx.Client(base_url=closed.address, trust_env=False) as http:
        guessing = [pool.submit(guess, number) for number in range(16)]
        seconds = []
        for _ in range(200):
            seconds.append(timed(lambda: http.get("/healthz").raise_for_status()))
            time.sleep(0.02)
        ended.set()
        for one in guessing:
            one.result()
    hashed = statuses.count(401)
    figure(record_property, 6, tries=len(statuses), looked_at=hashed, healthz_p95_ms=1000 * p95(seconds))
    # The fault was 841 ms with 16 guessers, the password's hash on the event loop; 10 ms are usual.
    assert p95(seconds) < 0.5 and 1 <= hashed < 20 and 429 in statuses
    assert "sign-in outcome=failed" in (closed.folder / "server.log").read_text()


def test_8_what_a_killed_server_leaves_is_deleted_by_the_next(tmp_path, photo, record_property):
    killed, next_one = tmp_path / "killed", tmp_path / "next"
    killed.mkdir()
    next_one.mkdir()
    with (
        pytest.raises(AssertionError, match=r"left files behind|did not end"),
        serving(killed, "--model", "builtin") as served,
    ):
        with visiting(served.address) as visitor:
            uploaded(visitor, photo)
        served.process.send_signal(signal.SIGKILL)
        served.process.wait(60)
    left = list(killed.glob("hrn_opt_*/files/*/me.jpg"))
    assert left
    with serving(next_one, "--model", "builtin", TMPDIR=str(killed)) as served:
        ready(served)
        wait_until(lambda: not left[0].exists())
        figure(record_property, 8, left=len(left), after_the_next_start=sum(path.exists() for path in left))


def test_10_a_page_of_a_sibling_host_reads_and_does_nothing(closed, photo, record_property):
    with httpx.Client(base_url=closed.address, timeout=60, trust_env=False) as ada:
        signed_in = ada.post("/signin", data={"name": "ada", "password": "correct horse"})
        assert signed_in.status_code == 303 and "SameSite=Lax" in signed_in.headers["set-cookie"]
        origin, port = {"origin": "http://evil.example"}, closed.address.rpartition(":")[2]
        sites = [{"sec-fetch-site": "same-site", **origin}, origin, {"origin": f"http://evil.localhost:{port}"}]
        statuses = []
        for headers in sites:
            for method, path in (
                ("GET", "/config"), ("GET", "/gradio_api/info"), ("POST", "/gradio_api/upload"), ("POST", "/signout"),
                ("POST", "/gradio_api/queue/join"), ("GET", "/gradio_api/queue/data?session_hash=x"),
                ("POST", "/api/v1/faces"), ("OPTIONS", "/gradio_api/upload"), ("GET", "/signout"),
            ):  # fmt: skip
                answer = ada.request(method, path, headers=headers, content=b"{}" if method == "POST" else None)
                statuses.append(answer.status_code)
                assert not any(name.startswith("access-control") for name in answer.headers)
        assert ada.get("/gradio_api/token").status_code == ada.get("/logout").status_code == 404
        assert ada.get("/signout").status_code == 404 and ada.get("/config").status_code == 200  # still signed in
    figure(record_property, 10, tries=len(statuses), refused=sum(status in (403, 404) for status in statuses))
    assert set(statuses) <= {403, 404}


def test_13_the_end_lets_a_photo_at_work_finish(tmp_path, photo, record_property):
    with serving(tmp_path, "--model", "builtin") as served, ThreadPoolExecutor(1) as pool:
        ready(served)
        with httpx.Client(base_url=served.address, timeout=60, trust_env=False) as http:
            answer = pool.submit(face, http, photo, format="zip", turntable="true")
            with httpx.Client(base_url=served.address, trust_env=False) as other:
                wait_until(lambda: other.get("/healthz").json()["jobs"] == 1)
            served.process.send_signal(signal.SIGTERM)
            seconds = timed(answer.result)
            status = answer.result().status_code
    figure(record_property, 13, status=status, after_sigterm_s=seconds)
    assert status == 200


def test_15_a_stranger_s_heartbeat_ends_nobody_s_visit(served, photo, record_property):
    with visiting(served.address) as ada, visiting(served.address) as eve:
        path = uploaded(ada, photo)
        assert joined(ada, path, "adas_tab").status_code == 200 and outcome(ada, "adas_tab")["success"]
        refused = []
        for way in ("heartbeat/adas_tab", "queue/data?session_hash=adas_tab", f"file={path}"):
            with eve.stream("GET", f"/gradio_api/{way}") as answer:
                refused.append(answer.status_code)
        time.sleep(0.5)
        assert ada.get(f"/gradio_api/file={path}").content == photo
    figure(record_property, 15, statuses=refused)
    assert set(refused) == {403}


def test_17_a_foreign_folder_of_gradio_s_name_does_not_matter(tmp_path, photo, record_property):
    (tmp_path / "gradio").touch(mode=0o000)
    with serving(tmp_path, "--model", "builtin") as served, visiting(ready(served).address) as visitor:
        assert joined(visitor, uploaded(visitor, photo), "tab").status_code == 200
        success = outcome(visitor, "tab")["success"]
    figure(record_property, 17, success=success)
    assert success and (tmp_path / "gradio").stat().st_size == 0


def test_20_only_named_sites_show_the_page_in_a_frame(served, tmp_path, record_property):
    with httpx.Client(base_url=served.address, trust_env=False) as http:
        alone = http.get("/").headers
    dest = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "iframe"}
    with (
        serving(tmp_path, "--model", "builtin", "--embed-in", "https://huggingface.co") as embedded,
        httpx.Client(base_url=embedded.address, trust_env=False) as http,
    ):
        framed = http.get("/").headers
        status = http.get("/", headers=dest).status_code
    policies = [one["content-security-policy"].partition("frame-ancestors ")[2] for one in (alone, framed)]
    figure(record_property, 20, alone=policies[0], named=policies[1], status_in_a_frame=status)
    assert policies == ["'self'", "'self' https://huggingface.co"] and status == 200
    assert alone["x-frame-options"] == "SAMEORIGIN" and "x-frame-options" not in framed
