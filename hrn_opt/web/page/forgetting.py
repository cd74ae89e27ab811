"""What Gradio remembers of visitors, and when it is made to forget.

For each session Gradio 6.31 keeps a copy of the whole page's configuration (about 150 kB), a queue of messages and a
set of events. It lets go of the first when a thousand others have come, of the queue after two thousand, and of the set
and of cancelled events never. A program that calls the endpoint is a new session each time, and never says goodbye.
"""

from __future__ import annotations

import re
from collections import Counter
from datetime import datetime, timedelta
from typing import Any

import gradio as gr

from hrn_opt.web.asgi import App, Receive, Scope, Send, local_path

_HEARTBEAT = re.compile(r"/gradio_api/heartbeat/([^/]+)/?")
_IDLE_S = 10.0  # a page that has just been loaded opens its heartbeat within that
_UNREAD_S = 3600.0  # an answer that nobody has come for


class OpenPages:
    """A layer that counts which sessions' pages are open: the others can be forgotten."""

    def __init__(self, app: App):
        self._app = app
        self._open: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        heartbeat = _HEARTBEAT.fullmatch(local_path(scope)) if scope["type"] == "http" else None
        if heartbeat is None:
            await self._app(scope, receive, send)
            return
        session = heartbeat[1]
        self._open[session] += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._open[session] -= 1
            if not self._open[session]:
                del self._open[session]

    def __contains__(self, session: str) -> bool:
        return session in self._open


def forget_gone(page: gr.Blocks, gradio: Any, open_pages: OpenPages) -> int:
    """How many sessions Gradio was made to forget: those without an open page for which nothing is at work or unread.

    On the event loop, and between two awaits: no request is half-way through these. gradio: the mounted application.
    """
    queue, states = page._queue, gradio.state_holder
    gradio.iterators_to_reset.intersection_update(queue.event_ids_to_events)  # of events that were cancelled
    gone = 0
    for session in {*states.session_data, *queue.pending_event_ids_session}:
        unread = queue.pending_event_ids_session.get(session, set())
        unused = datetime.now() - states.time_last_used.get(session, datetime.min)
        if (
            session not in open_pages
            and unread.isdisjoint(queue.event_ids_to_events)
            and unused > timedelta(seconds=_UNREAD_S if unread else _IDLE_S)
        ):
            gone += 1
            with states.lock:
                states.session_data.pop(session, None)
                states.time_last_used.pop(session, None)
            queue.pending_messages_per_session.pop(session, None)
            queue.pending_event_ids_session.pop(session, None)
    return gone
