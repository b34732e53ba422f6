"""Small servers that stand in for the two ends the adapter talks to when they misbehave."""

from __future__ import annotations

import hashlib
import json
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

STALLED_LAYER = 10_000_000  # bytes promised
SENT_OF_LAYER = 1_000_000  # bytes that come


class _UnixServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


@contextmanager
def engine_stub(
    socket_path: Path, answers: dict[str, tuple[int, Any]], *, api_version: str = "1.41"
) -> Iterator[str]:
    """Answer like an engine: path without version → status and JSON; "hang" never answers."""
    quit_now = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            path = "/" + path.split("/", 2)[2] if path.startswith("/v1.") else path
            status, body = answers.get(path, (404, {"message": "page not found"}))
            if path == "/version":
                status, body = 200, {"ApiVersion": api_version}
            if body == "hang":
                quit_now.wait()
                return
            data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_POST = do_DELETE = do_GET  # noqa: N815

        def address_string(self) -> str:
            return "unix"

        def log_message(self, *args: object) -> None:
            """Say nothing."""

    server = _UnixServer(str(socket_path), Handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield f"unix://{socket_path}"
    finally:
        quit_now.set()
        server.shutdown()
        server.server_close()


@contextmanager
def stalling_registry() -> Iterator[str]:
    """Offer one image whose layer stops flowing after a part; yield the registry's address."""
    quit_now = threading.Event()
    config = json.dumps(
        {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}}
    ).encode()
    manifest = json.dumps(_manifest(config)).encode()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if "/manifests/" in self.path:
                self._send(manifest, "application/vnd.docker.distribution.manifest.v2+json")
            elif self.path.endswith(_digest(config)):
                self._send(config, "application/octet-stream")
            elif "/blobs/" in self.path:
                self._stall()
            else:
                self._send(b"{}", "application/json")

        do_HEAD = do_GET  # noqa: N815

        def _send(self, data: bytes, kind: str) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("Docker-Content-Digest", _digest(data))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(data)

        def _stall(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(STALLED_LAYER))
            self.end_headers()
            self.wfile.write(b"\0" * SENT_OF_LAYER)
            self.wfile.flush()
            quit_now.wait()
            self.close_connection = True

        def log_message(self, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        quit_now.set()
        server.shutdown()
        server.server_close()


def _digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def _manifest(config: bytes) -> dict[str, Any]:
    return {
        "schemaVersion": 2,
        "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": {
            "mediaType": "application/vnd.docker.container.image.v1+json",
            "size": len(config),
            "digest": _digest(config),
        },
        "layers": [
            {
                "mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip",
                "size": STALLED_LAYER,
                "digest": "sha256:" + "ab" * 32,
            }
        ],
    }
