"""Asks an ASGI app, as a server would: one request in, one answer out."""

import asyncio
from dataclasses import dataclass, field
from urllib.parse import unquote


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes = b""
    headers: list = field(default_factory=list)

    def header(self, name):
        return next((value.decode() for key, value in self.headers if key.decode().lower() == name), "")

    @property
    def text(self):
        return self.body.decode()


@dataclass
class Browser:
    """Keeps the cookies it is given, as the last of each name."""

    app: object
    address: str = "192.0.2.1"
    scheme: str = "http"
    root_path: str = ""
    cookies: dict = field(default_factory=dict)

    def get(self, path, **headers):
        return asyncio.run(self.ask("GET", path, headers=headers))

    def post(self, path, body=b"", content_type="application/json", **headers):
        return asyncio.run(self.ask("POST", path, body, {"content_type": content_type, **headers}))

    async def ask(self, method, path, body=b"", headers=None):
        path, _, query = path.partition("?")
        given = {name.replace("_", "-"): value for name, value in (headers or {}).items()}
        if self.cookies:
            given.setdefault("cookie", "; ".join(f"{name}={value}" for name, value in self.cookies.items()))
        scope = {
            "type": "http",
            "method": method,
            "scheme": self.scheme,
            "root_path": self.root_path,
            "path": self.root_path + unquote(path),
            "raw_path": (self.root_path + path).encode(),
            "query_string": query.encode(),
            "headers": [(name.encode(), value.encode()) for name, value in given.items()],
            "client": (self.address, 1234),
        }
        answer = await asked(self.app, scope, body)
        for name, value in answer.headers:
            if name == b"set-cookie":
                self._keep(value.decode())
        return answer

    def _keep(self, cookie):
        name, _, value = cookie.partition(";")[0].partition("=")
        self.cookies[name] = value
        if "Max-Age=0" in cookie:
            del self.cookies[name]


async def asked(app, scope, body=b""):
    waiting, sent = [{"type": "http.request", "body": body, "more_body": False}], []

    async def receive():
        return waiting.pop() if waiting else {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    await app(scope, receive, send)
    start = sent[0]
    content = b"".join(message.get("body", b"") for message in sent[1:])
    return Answer(start["status"], content, list(start.get("headers", [])))
