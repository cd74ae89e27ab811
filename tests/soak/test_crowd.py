"""Thirty-two clients at once, half by the endpoint for programs and half by gradio_client."""

import io
import json
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest
from PIL import Image

import hrn_opt
from tests.soak.house import house, tinted

pytestmark = pytest.mark.slow
_CLIENTS = 32
_SIZE = 512


@pytest.fixture(scope="module")
def photos(example_photo):
    """By number: (the photo's bytes, the texture that the library makes of it)."""
    model = hrn_opt.load("builtin")
    made = [tinted(example_photo, number) for number in range(_CLIENTS)]
    return [(one, model.reconstruct(one, texture_size=_SIZE, want="texture").texture.rgb) for one in made]


def test_none_is_lost_and_none_mixed_up(tmp_path, photos, is_long):
    until_s = time.monotonic() + (600 if is_long else 60)
    with house(tmp_path / "tmp") as served, ThreadPoolExecutor(_CLIENTS) as pool:
        served.until_ready()
        visits = [
            pool.submit((_by_gradio if number % 2 else _by_http), served, number, photos[number], tmp_path, until_s)
            for number in range(_CLIENTS)
        ]
        counts = [visit.result() for visit in visits]
        print(f"\ncrowd: {sum(counts)} photos, {min(counts)} to {max(counts)} a client")
        # All come from one address. Each has at most one photo here, so that everybody gets as many turns.
        assert min(counts) >= 1 and max(counts) - min(counts[1::2]) <= max(3, max(counts) // 2)
        served.signal()
        served.assert_ended_well()


def test_shares_of_a_visitor_and_of_an_address_are_kept(tmp_path, photos):
    flags = ("--concurrency", "1", "--most-jobs", "8", "--most-jobs-per-visitor", "3", "--most-jobs-per-address", "5")
    with house(tmp_path / "tmp", *flags) as served, ThreadPoolExecutor(_CLIENTS) as pool:
        served.until_ready()
        answers = [answer.result() for answer in [pool.submit(_status, served, photos[0]) for _ in range(_CLIENTS)]]
        refused = [json.loads(body) for code, body in answers if code == 429]
        assert {code for code, _ in answers} == {200, 429}
        assert {one["values"]["reason"] for one in refused} == {"visitor"} and len(refused) <= _CLIENTS - 3
        assert _status(served, photos[0])[0] == 200


def _status(served, photo):
    answer = httpx.post(f"{served.address}/api/v1/faces", files={"photo": ("me.png", photo[0])}, timeout=300)
    return answer.status_code, answer.content


def _by_http(served, number, photo, folder, until_s):
    content, texture = photo
    count = 0
    with httpx.Client(base_url=served.address, timeout=300) as client:
        while time.monotonic() < until_s:
            data = {"texture_size": str(_SIZE), "format": "png"}
            answer = client.post("/api/v1/faces", files={"photo": (f"photo{number}.png", content)}, data=data)
            assert answer.status_code == 200, answer.text
            assert f"photo{number}." in answer.headers["Content-Disposition"]
            _assert_same(io.BytesIO(answer.content), texture)
            count += 1
    return count


def _by_gradio(served, number, photo, folder, until_s):
    from gradio_client import Client, handle_file

    content, texture = photo
    own = folder / str(number)
    own.mkdir()
    path = own / f"photo{number}.png"
    path.write_bytes(content)
    client, count = Client(served.address, verbose=False, download_files=own), 0
    while time.monotonic() < until_s:
        status, png, *_ = client.predict(handle_file(str(path)), texture_size=_SIZE, want="texture", api_name="/create")
        assert "Done in" in status and f"photo{number}." in png
        _assert_same(png, texture)
        count += 1
    client._kill_heartbeat.set()
    return count


def _assert_same(png, texture):
    with Image.open(png) as made:
        assert np.array_equal(np.asarray(made.convert("RGB")), texture), "somebody else's face, or another one"
