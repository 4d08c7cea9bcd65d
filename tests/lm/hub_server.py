"""A small server that speaks the part of the Hugging Face hub's protocol that downloads use, over real sockets."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class _Handler(BaseHTTPRequestHandler):
    name: str
    gated: str
    folder: Path
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        path = self.path.split("?")[0]
        model, _, rest = path.removeprefix("/api/models").removeprefix("/").partition("/revision/")
        resolve = f"/{self.name}/resolve/"
        if self.gated in path:
            self._send(403, b"{}", {"X-Error-Code": "GatedRepo"}, body)
        elif path.startswith(resolve):
            self._file(self.folder / path.removeprefix(resolve).partition("/")[2], body)
        elif not path.startswith(f"/api/models/{self.name}"):
            self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"}, body)
        elif model != self.name:
            self._send(404, b"{}", {"X-Error-Code": "EntryNotFound"}, body)
        elif rest not in ("", "main", COMMIT):
            self._send(404, b"{}", {"X-Error-Code": "RevisionNotFound"}, body)
        else:
            self._send(200, json.dumps({"id": self.name, "sha": COMMIT, "siblings": [], "tags": []}).encode(), {}, body)

    def _file(self, file: Path, body: bool) -> None:
        if not file.is_file():
            self._send(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT}, body)
            return
        content = file.read_bytes()
        tag = hashlib.sha256(content).hexdigest()
        self._send(200, content, {"X-Repo-Commit": COMMIT, "ETag": f'"{tag}"', "Accept-Ranges": "bytes"}, body)

    def _send(self, status: int, content: bytes, headers: dict[str, str], body: bool) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Tests are quiet."""


@contextmanager
def hub(name: str, gated: str, folder: Path) -> Iterator[str]:
    """Serve ``folder`` as the model ``name`` (and a locked ``gated``); gives the endpoint's address."""
    server = ThreadingHTTPServer(
        ("127.0.0.1", 0), type("_Served", (_Handler,), {"name": name, "gated": gated, "folder": folder})
    )
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
