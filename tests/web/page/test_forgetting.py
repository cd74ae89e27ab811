"""What Gradio keeps of sessions goes when they have gone, and not before."""

import asyncio
import threading
from collections import OrderedDict
from datetime import datetime, timedelta
from types import SimpleNamespace

import pytest

from hrn_opt.web.page.forgetting import OpenPages, forget_gone


def world(unused_s, unread=(), at_work=()):
    """A Gradio with one session, "ada", that was unused for so long."""
    queue = SimpleNamespace(
        pending_messages_per_session={"ada": object()},
        pending_event_ids_session={"ada": set(unread)},
        event_ids_to_events=dict.fromkeys(at_work),
    )
    states = SimpleNamespace(
        session_data=OrderedDict(ada=object()),
        time_last_used={"ada": datetime.now() - timedelta(seconds=unused_s)},
        lock=threading.Lock(),
    )
    return SimpleNamespace(_queue=queue), SimpleNamespace(state_holder=states, iterators_to_reset={"old", *at_work})


@pytest.mark.parametrize(
    ("unused_s", "unread", "at_work", "goes"),
    [
        (11, (), (), True),
        (9, (), (), False),  # a page that is just being opened
        (5000, ("one",), ("one",), False),  # at work, or waiting
        (11, ("one",), (), False),  # its client will come for it
        (3601, ("one",), (), True),  # or never comes
    ],
)
def test_who_has_gone_is_forgotten(unused_s, unread, at_work, goes):
    page, gradio = world(unused_s, unread, at_work)
    assert forget_gone(page, gradio, OpenPages(None)) == goes
    queue, states = page._queue, gradio.state_holder
    kept = (states.session_data, states.time_last_used, queue.pending_messages_per_session)
    assert all(("ada" in one) != goes for one in (*kept, queue.pending_event_ids_session))
    assert gradio.iterators_to_reset == set(at_work)


def test_an_open_page_is_kept_until_its_heartbeat_ends():
    page, gradio = world(unused_s=5000)
    told = []

    async def heartbeat(scope, receive, send):
        told.append(forget_gone(page, gradio, open_pages))

    open_pages = OpenPages(heartbeat)
    asyncio.run(open_pages({"type": "http", "path": "/gradio_api/heartbeat/ada"}, None, None))
    assert told == [0] and forget_gone(page, gradio, open_pages) == 1
