"""Every way of asking the server to fetch an address; as a program, in a network where somebody does answer there.

`python -m tests.attacks.fetching FOLDER` wants a network of its own (unshare --net), and tells what it found as JSON.
"""

import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

from tests.attacks.strangers import ready, visiting
from tests.browser.visits import serving

PUBLIC = "93.184.216.34"  # one that Gradio's own check lets pass


def fetch_tries(address, url):
    """The status of each try."""
    photo = {"path": url, "meta": {"_type": "gradio.FileData"}}
    body = json.dumps({"data": [photo, 512, "texture", "1", "builtin", "auto"], "session_hash": "s", "fn_index": 6})
    form, is_json = ("content-type", "multipart/form-data; boundary=x"), ("content-type", "application/json")
    ways = [f"file/{url}", f"file={url}", f"proxy={url}", f"stream/{url}", f"file/{url.replace('//', '/')}"]
    with visiting(address) as visitor:
        answers = [visitor.get(f"/gradio_api/{way}") for way in ways]
        for route in ("call/create", "queue/join", "run/predict", "component_server"):
            for headers in ([form, is_json], [is_json, form], [form], [is_json], [("content-type", "text/plain")]):
                answers.append(visitor.post(f"/gradio_api/{route}", content=body, headers=headers))
    return [answer.status_code for answer in answers]


def main(folder):
    for command in (["link", "set", "lo", "up"], ["address", "add", f"{PUBLIC}/32", "dev", "lo"]):
        subprocess.run(["ip", *command], check=True)
    asked = []

    class Secret(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()

    with HTTPServer((PUBLIC, 8000), Secret) as secret:
        answering = threading.Thread(target=secret.serve_forever)
        answering.start()
        with serving(folder, "--model", "builtin") as served:
            statuses = fetch_tries(ready(served).address, f"http://{PUBLIC}:8000/secret.jpg")
        secret.shutdown()
        answering.join()
    sys.stdout.write(json.dumps({"statuses": statuses, "asked": asked}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
