"""What the Python clients share: a browser that asks nobody, and what a client remembers."""

import json
import sys
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import parse_qs, urlsplit

# SCRIPT ISSUER STATE-FILE [DOCUMENT-URL]: a state file that exists is what an earlier run left behind.
issuer, state_file, *rest = sys.argv[1:]
document_url = rest[0] if rest else None
remembered = json.loads(Path(state_file).read_text()) if Path(state_file).exists() else None


def remember(client: dict) -> None:
    Path(state_file).write_text(json.dumps(client))


def serve(answer) -> str:
    """`answer` gives status, headers and body for a request handler."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            length = int(self.headers.get("content-length") or 0)
            self.rfile.read(length)
            status, headers, body = answer(self)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}"


class Loopback:
    """A redirect URI on a port of its own."""

    def __init__(self):
        self.landed = []
        self.origin = serve(self._land)
        self.redirect_uri = f"{self.origin}/callback"

    def _land(self, request):
        self.landed.append(request.path)
        return 200, {}, b"You can close this page."

    def visit(self, url: str) -> str:
        """Where the authorization ended."""
        with urllib.request.urlopen(url) as answer:
            assert answer.status == 200
        assert len(self.landed) == 1, "the authorization ends at the redirect URI"
        return self.origin + self.landed.pop()


def parameters(url: str) -> dict[str, str]:
    return {name: value for name, [value] in parse_qs(urlsplit(url).query).items()}
