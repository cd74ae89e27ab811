"""Who has signed in, and the button that ends it."""

from __future__ import annotations

from html import escape

import gradio as gr

from hrn_opt.web.asgi import USER
from hrn_opt.web.words import language_of, say


def account(request: gr.Request) -> gr.HTML:
    """Shown to whoever has signed in; programs have tokens, and a page without users has nobody."""
    assert request.request is not None, "Gradio hands on the request of each event"
    user = request.request.scope.get(USER)
    return gr.HTML(account_html(user, language_of(request.headers)), visible=True) if user else gr.HTML(visible=False)


def account_html(user: str, language: str) -> str:
    """A form of its own, as the door takes a POST alone; its address is relative, for a page below a sub-path."""
    name, sign_out = escape(user), escape(say(language, "sign_out"))
    return f'<form method="post" action="signout"><span title="{name}">{name}</span><button>{sign_out}</button></form>'
