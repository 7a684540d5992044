"""The explorer as a page of this machine: read only, on 127.0.0.1, for those who know its address."""

from __future__ import annotations

import errno
import hmac
import json
import secrets
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from ditprobe.explorer.assets import served_page
from ditprobe.explorer.controller import Explorer
from store.errors import DitprobeError, InvalidInputError

HOST = "127.0.0.1"


class ExplorerServer:
    """A context manager that serves an explorer until it is left.

    Parameters
    ----------
    explorer : Explorer
    port : int
        0 takes a free one.
    title : str
        Title of the page.

    Raises
    ------
    InvalidInputError
        The port is in use, or may not be used.

    Notes
    -----
    Only GET is answered, only below a random token, and only where the request names this machine as its host, so that
    another page in the same browser, or another user, gets nothing.
    """

    def __init__(self, explorer: Explorer, *, port: int = 0, title: str = "ditprobe explorer") -> None:
        self.token = secrets.token_urlsafe(16)
        handler = type("Handler", (_Handler,), {"explorer": explorer, "token": self.token, "page": served_page(title)})
        try:
            self._server = _Server((HOST, port), handler)
        except (OSError, OverflowError) as error:
            taken = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
            what = "is in use" if taken else "cannot be used"
            raise InvalidInputError(
                f"port {port} {what} on {HOST}. Choose another one, or 0 for any that is free."
            ) from error
        self._thread = threading.Thread(target=self._server.serve_forever, name="explorer-server", daemon=True)

    @property
    def address(self) -> str:
        """Address of the page."""
        return f"http://{HOST}:{self._server.server_address[1]}/{self.token}/"

    def __enter__(self) -> ExplorerServer:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = False  # a port that another program listens on must not be shared with it


class _Handler(BaseHTTPRequestHandler):
    """One request; the class of each server has its explorer, token and page."""

    explorer: Explorer
    token: str
    page: str
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # the end of an answer must not wait for its beginning to be acknowledged
    wbufsize = -1
    server_version = "ditprobe"
    sys_version = ""

    def do_GET(self) -> None:
        """Answer below the token; everything else is not found."""
        address = urlsplit(self.path)
        _, _, rest = address.path.partition("/")
        token, _, what = rest.partition("/")
        if address.path == "/favicon.ico":
            self._send(204, "image/x-icon", b"")
        elif not self._names_this_machine() or not hmac.compare_digest(token.encode(), self.token.encode()):
            self._send(404, "text/plain", b"not found")
        elif what == "":
            self._send(200, "text/html; charset=utf-8", self.page.encode())
        elif what == "answer":
            self._answer(parse_qs(address.query).get("q", [""])[0])
        elif what.startswith("image/"):
            self._image(what.split("/")[1:])
        else:
            self._send(404, "text/plain", b"not found")

    def _names_this_machine(self) -> bool:
        """Tell whether a request names this address; another name that resolves here is rejected (DNS rebinding)."""
        host, _, port = self.headers.get("Host", "").rpartition(":")
        address: Any = self.server.server_address
        return host in (HOST, "localhost") and port == str(address[1])

    def _answer(self, query: str) -> None:
        try:
            request = json.loads(query)
            if not isinstance(request, dict):
                raise ValueError("not an object")
        except ValueError:
            self._send(400, "text/plain", b"the request is not JSON")
            return
        self._send(200, "application/octet-stream", self.explorer.answer(request).to_bytes())

    def _image(self, numbers: list[str]) -> None:
        try:
            recording, image = map(int, numbers)
            kind, data = self.explorer.picture(recording, image)
        except (ValueError, DitprobeError):  # our own InvalidInputError is a ValueError too
            self._send(404, "text/plain", b"no such image")
            return
        self._send(200, kind, data, cached=True)

    def _send(self, code: int, kind: str, data: bytes, *, cached: bool = False) -> None:
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Cache-Control", "private, max-age=3600" if cached else "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "no-referrer")
        self.end_headers()
        try:
            self.wfile.write(data)
            self.wfile.flush()
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True  # the page was closed, or has asked for something newer

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: the address has the token in it."""
