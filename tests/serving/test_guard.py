"""The guard refuses what would make the server fetch, and passes everything else on."""

import asyncio

import pytest

from hrn_opt.serving.guard import RefuseFetching


def status_of(path, kind="http"):
    statuses = []

    async def page(scope, receive, send):
        statuses.append(200)

    async def send(message):
        statuses.append(message.get("status"))

    asyncio.run(RefuseFetching(page)({"type": kind, "path": path}, None, send))
    return statuses[0]


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/file=http://127.0.0.1:9/x",
        "/gradio_api/file=HTTPS://somewhere/x",
        "/file=http://somewhere/x",
        "/gradio_api/proxy=http://somewhere/x",
    ],
)
def test_fetching_is_refused(path):
    assert status_of(path) == 403


@pytest.mark.parametrize("path", ["/", "/gradio_api/file=/tmp/private/texture.png", "/assets/httpclient.js"])
def test_the_page_itself_passes(path):
    assert status_of(path) == 200


def test_other_protocols_pass():
    assert status_of("", kind="lifespan") == 200
