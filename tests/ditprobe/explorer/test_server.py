"""The local page: for those with its address, on this machine, read only."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest
from explored import explorer_of, write_recording

from ditprobe.explorer.server import ExplorerServer
from store.errors import InvalidInputError

Reply = tuple[int, bytes, dict[str, str]]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ExplorerServer]:
    explorer = explorer_of(write_recording(tmp_path_factory.mktemp("served") / "run.zarr"))
    with ExplorerServer(explorer) as opened:
        yield opened


def ask(server: ExplorerServer, path: str, *, method: str = "GET", host: str | None = None) -> Reply:
    address = urlsplit(server.address)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=20)
    connection.request(method, path, headers={} if host is None else {"Host": host})
    reply = connection.getresponse()
    found = reply.status, reply.read(), dict(reply.getheaders())
    connection.close()
    return found


def test_the_page_asks_nobody_but_this_server(server: ExplorerServer) -> None:
    status, page, headers = ask(server, f"/{server.token}/")
    assert (status, headers["Cache-Control"]) == (200, "no-store")
    assert b"connect-src 'self'" in page
    assert b"http://" not in page.replace(b"http://www.w3.org/2000/svg", b"")
    assert b"https://" not in page


def test_answers_and_images_come_below_the_token(server: ExplorerServer) -> None:
    query = quote(json.dumps({"kind": "attention", "step": 9, "layer": 4, "x": 3, "y": 3}))
    status, packed, _ = ask(server, f"/{server.token}/answer?q={query}")
    assert status == 200
    assert json.loads(packed[4 : 4 + int.from_bytes(packed[:4], "little")])["cell"] == [0, 0]
    status, image, headers = ask(server, f"/{server.token}/image/0/12")
    assert (status, headers["Content-Type"], image[:4]) == (200, "image/png", b"\x89PNG")


@pytest.mark.parametrize("path", ["/", "/answer", "/wrong/", "/{token}x/", "/{token}/image/0/99", "/{token}/../etc"])
def test_everything_else_is_not_found(server: ExplorerServer, path: str) -> None:
    assert ask(server, path.format(token=server.token))[0] == 404


def test_another_name_for_this_machine_is_not_answered(server: ExplorerServer) -> None:
    """A name of another site that points to this machine would let that site read the recording."""
    assert ask(server, f"/{server.token}/", host=f"evil.example:{urlsplit(server.address).port}")[0] == 404
    assert ask(server, f"/{server.token}/", host=f"localhost:{urlsplit(server.address).port}")[0] == 200


def test_nothing_can_be_written(server: ExplorerServer) -> None:
    assert ask(server, f"/{server.token}/", method="POST")[0] == 501
    assert ask(server, f"/{server.token}/answer?q=nonsense")[0] == 400
    assert ask(server, f"/{server.token}/answer?q=[]")[0] == 400


def test_a_port_in_use_is_told(server: ExplorerServer, tmp_path: Path) -> None:
    port = urlsplit(server.address).port
    explorer = explorer_of(write_recording(tmp_path / "run.zarr"))
    with pytest.raises(InvalidInputError, match=f"port {port} is in use on 127.0.0.1. Choose another one"):
        ExplorerServer(explorer, port=port)
    with pytest.raises(InvalidInputError, match="port 70000 cannot be used"):
        ExplorerServer(explorer, port=70000)
