"""Many photos one after another: what the server and its processes hold does not grow."""

import statistics

import httpx
import psutil
import pytest

from tests.soak.house import SMALL, house, tinted

pytestmark = pytest.mark.slow
_MOST_GROWTH = 1.05  # last quarter over second quarter: the allocators' own noise is 1 to 2 %
_MIB = 1 << 20


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    with house(tmp_path_factory.mktemp("memory") / "tmp", "--concurrency", "1") as one:
        yield one.until_ready()


def test_programs_photos_in_a_row(served, example_photo, is_long):
    """Every photo is another one, so that nothing kept of the last ones helps."""
    count = 2000 if is_long else 200
    with httpx.Client(base_url=served.address, timeout=120) as client:

        def send(number):
            photo = (f"photo{number}.png", photos[number % len(photos)] + number.to_bytes(4, "big"))
            client.post("/api/v1/faces", files={"photo": photo}, data=SMALL).raise_for_status()

        photos = [tinted(example_photo, number) for number in range(8)]
        resident, files = _over(count, send, lambda: list(served.family()))
    _tell("photos", resident, files)
    _assert_flat(resident)
    assert max(files[len(files) // 4 :]) <= min(files[len(files) // 4 :]) + 4


def test_programs_that_never_say_goodbye(served, example_photo, tmp_path, is_long):
    """Each call a new gradio_client, hence a new session: what Gradio keeps of sessions has an end."""
    from gradio_client import Client, handle_file

    count = 1000 if is_long else 200

    def call(number):
        client = Client(served.address, verbose=False, download_files=tmp_path)
        status, *_ = client.predict(
            handle_file(str(example_photo)), texture_size=512, want="texture", api_name="/create"
        )
        assert "Done in" in status
        client._kill_heartbeat.set()  # `close` would wait for it, a second a call

    resident, files = _over(count, call, lambda: [psutil.Process(served.pid)])
    _tell("clients", resident, files)
    _assert_flat(resident)


def _over(count, send, processes):
    """Resident bytes and open files after each photo; a tenth as many go before, as warm-up."""
    resident, files = [], []
    for number in range(-count // 10, count):
        send(number + count)
        if number >= 0:
            looked_at = processes()
            resident.append(sum(one.memory_info().rss for one in looked_at))
            files.append(sum(one.num_fds() for one in looked_at))
    return resident, files


def _assert_flat(resident):
    quarter = len(resident) // 4
    second, last = statistics.median(resident[quarter : 2 * quarter]), statistics.median(resident[-quarter:])
    assert last <= _MOST_GROWTH * second, (second // _MIB, last // _MIB)


def _tell(what, resident, files):
    quarter = len(resident) // 4
    parts = [statistics.median(resident[start : start + quarter]) / _MIB for start in range(0, 4 * quarter, quarter)]
    print(
        f"\n{what}: {len(resident)}; MiB by quarter {[round(part) for part in parts]}; files {files[0]} to {files[-1]}"
    )
