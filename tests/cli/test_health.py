"""`hrn-opt health` asks where the server listens, and says in one sentence what is wrong."""

import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from hrn_opt.cli import health, main


class Page(BaseHTTPRequestHandler):
    status = 200

    def do_GET(self):
        self.send_response(self.status if self.path == "/healthz" else 404)
        self.end_headers()

    def log_message(self, *_):
        pass


@contextmanager
def served(host, status=200):
    """The port of a server at an address; skipped where this system has no such address."""
    kind = type("Server", (HTTPServer,), {"address_family": socket.AF_INET6 if ":" in host else socket.AF_INET})
    try:
        server = kind((host, 0), type("Answering", (Page,), {"status": status}))
    except OSError as error:
        pytest.skip(f"this system cannot serve at {host}: {error}")
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(autouse=True)
def processes(tmp_path, monkeypatch):
    """Makes processes: a number and a command line each. There are none at first."""
    monkeypatch.setattr(health, "_PROCESSES", tmp_path)

    def make(**command_lines):
        for number, line in command_lines.items():
            folder = tmp_path / number.strip("_")
            folder.mkdir()
            (folder / "cmdline").write_text("".join(f"{word}\0" for word in line.split()))

    return make


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::1", "::", "[::1]"])
def test_it_asks_where_the_environment_says(monkeypatch, host):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # nothing listens there
    monkeypatch.setenv("HRN_OPT_HOST", host)
    with served(host.strip("[]")) as port:
        monkeypatch.setenv("HRN_OPT_PORT", str(port))
        assert main(["health"]) == 0


@pytest.mark.parametrize(
    "line",
    [
        "python /usr/local/bin/hrn-opt serve --concurrency 2 --port {} --public",
        "/sbin/docker-init -- hrn-opt serve --port={}",
        "python -m hrn_opt serve --host 0.0.0.0 --port {}",
    ],
)
def test_the_running_server_s_options_come_first(monkeypatch, processes, line):
    monkeypatch.setenv("HRN_OPT_PORT", "1")
    with served("127.0.0.1") as port:
        processes(_1=line.format(port), _20="hrn-opt serve --port 2", _3="sleep serve", _4="hrn-opt health")
        assert main(["health"]) == 0
        assert main(["health", "--port", "1"]) == 1  # what is said here comes before it


@pytest.mark.parametrize("status", [404, 503])
def test_another_answer_is_no_health(capsys, status):
    with served("127.0.0.1", status) as port:
        assert main(["health", "--port", str(port)]) == 1
    assert (
        capsys.readouterr().err == f"hrn-opt: The page at 127.0.0.1, port {port}, is not well: it answers {status}.\n"
    )


def test_no_answer_is_one_sentence(capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        assert main(["health", "--port", str(taken.getsockname()[1])]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "Connection refused" in error


def test_it_imports_nothing_slow():
    """It runs every half minute, beside the photos."""
    code = "import sys; from hrn_opt.cli import main; main(['health', '--port', '1']); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "hrn_opt.cli.health" in loaded and not {"torch", "numpy", "gradio", "PIL"} & set(loaded)
