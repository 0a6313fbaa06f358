"""The HTTP server alone, over a real Unix socket: what it refuses, what it bounds, what it lets through."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from notifyd.adapters.accounts import group_id, user_name
from notifyd.api import http
from notifyd.api.http import BodyLimit, HttpServer
from notifyd.api.sockets import SocketFailed, inherited_sockets, listening_socket
from notifyd.api.wire import ApiProblem, Request, Response, Stream, answer


class Echo:
    """Answers with what it was asked."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.chunks_made = 0

    def accept_head(self, request: Request) -> BodyLimit:
        if request.path == "/missing":
            raise ApiProblem(404, "not-found", "nothing here")
        return BodyLimit(100, 0.5)

    async def handle(self, request: Request) -> Response | Stream:
        if request.path == "/stream":
            return Stream(self._flood())
        if request.path == "/wait":
            await self.gate.wait()
        return answer({"method": request.method, "path": request.path, "body": request.body.decode()})

    async def _flood(self) -> AsyncIterator[bytes]:
        while True:
            self.chunks_made += 1
            yield b"data: x\n\n" * 1000
            await asyncio.sleep(0)


@asynccontextmanager
async def serving(tmp_path: Path, max_connections: int = 64) -> AsyncIterator[tuple[HttpServer, Echo, Path]]:
    path = tmp_path / "test.sock"
    application = Echo()
    server = HttpServer(application, max_connections)
    await server.start(listening_socket(path, "no-such-group", {}))
    try:
        yield server, application, path
    finally:
        await server.stop(0.1)


async def talk(path: Path, data: bytes) -> bytes:
    reader, writer = await asyncio.open_unix_connection(str(path))
    writer.write(data)
    try:
        async with asyncio.timeout(5):
            return await reader.read()
    finally:
        writer.close()


CLOSE = b"Host: a\r\nConnection: close\r\n"

ANSWERS = {
    "get": (b"GET /x HTTP/1.1\r\n" + CLOSE + b"\r\n", [200]),
    "http-1.0": (b"GET /x HTTP/1.0\r\n\r\n", [200]),
    "post": (b"POST /x HTTP/1.1\r\n" + CLOSE + b"Content-Length: 2\r\n\r\nab", [200]),
    "chunked": (b"POST /x HTTP/1.1\r\n" + CLOSE + b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n", [200]),
    "expect-continue": (
        b"POST / HTTP/1.1\r\n" + CLOSE + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\nab",
        [100, 200],
    ),
    "pipelined": (b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\n" + CLOSE + b"\r\n", [200, 200]),
    "refused-by-head": (b"POST /missing HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n", [404]),
    "garbage": (b"garbage\r\n\r\n", [400]),
    "tls-hello": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100) + b"\r\n\r\n", [400]),
    "no-host": (b"GET / HTTP/1.1\r\n\r\n", [400]),
    "two-hosts": (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", [400]),
    "absolute-target": (b"GET http://evil/ HTTP/1.1\r\nHost: a\r\n\r\n", [400]),
    "nul-in-path": (b"GET /%00 HTTP/1.1\r\nHost: a\r\n\r\n", [400]),
    "encoded-slash": (b"GET /a%2fb HTTP/1.1\r\nHost: a\r\n\r\n", [400]),
    "latin-1-path": (b"GET /%e9 HTTP/1.1\r\nHost: a\r\n\r\n", [400]),
    "space-before-colon": (b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", [400]),
    "length-and-chunked": (
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
        b"GET /x HTTP/1.1\r\n\r\n",
        [400],
    ),
    "two-lengths": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef", [400]),
    "negative-length": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\n", [400]),
    "words-as-length": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: five\r\n\r\n", [400]),
    "unknown-coding": (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", [501]),
    "declared-too-large": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 101\r\n\r\n", [413]),
    "chunked-too-large": (
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n70\r\n" + b"a" * 0x70 + b"\r\n0\r\n\r\n",
        [413],
    ),
    "huge-head": (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 20_000, [431]),
    "slow-body": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab", [408]),
}


def statuses(raw: bytes) -> list[int]:
    return [int(part[:3]) for part in raw.split(b"HTTP/1.1 ")[1:]]


@pytest.mark.parametrize("name", ANSWERS)
async def test_each_kind_of_request_gets_its_status_and_the_connection_ends(name: str, tmp_path: Path) -> None:
    """Well-formed requests are answered; every malformed one gets a 4xx or 501 and no second reading of its bytes."""
    data, expected = ANSWERS[name]
    async with serving(tmp_path) as (_, _, path):
        raw = await talk(path, data)
        assert statuses(raw) == expected
        if expected[-1] >= 400:
            body = json.loads(raw.partition(b"\r\n\r\n")[2])
            assert body["status"] == expected[-1]
            assert b"connection: close" in raw.lower()
            assert b"no-store" in raw


async def test_head_is_get_without_the_body(tmp_path: Path) -> None:
    """RFC 9110 §9.3.2: same headers, no content."""
    async with serving(tmp_path) as (_, _, path):
        raw = await talk(path, b"HEAD /x HTTP/1.1\r\n" + CLOSE + b"\r\n")
        head, _, body = raw.partition(b"\r\n\r\n")
        assert b"200 OK" in head
        assert b"content-length:" in head
        assert body == b""


async def test_silent_connections_make_room_for_a_speaking_one(tmp_path: Path) -> None:
    """Two hundred peers that say nothing do not keep another one out, nor do they accumulate."""
    async with serving(tmp_path) as (server, _, path):
        silent = [await asyncio.open_unix_connection(str(path)) for _ in range(200)]
        async with asyncio.timeout(5):
            while statuses(await talk(path, b"GET /x HTTP/1.1\r\n" + CLOSE + b"\r\n")) != [200]:
                await asyncio.sleep(0.05)  # 503 says to come back
        assert server.connections <= 64
        for _, writer in silent:
            writer.close()


async def test_when_all_connections_work_another_is_told_to_come_back(tmp_path: Path) -> None:
    """The bound holds for busy peers too: the next one gets 503 with Retry-After, at once."""
    async with serving(tmp_path, max_connections=4) as (server, application, path):
        busy = [asyncio.create_task(talk(path, b"GET /wait HTTP/1.1\r\n" + CLOSE + b"\r\n")) for _ in range(4)]
        while sum(not connection.idle for connection in server._connections) < 4:
            await asyncio.sleep(0.01)
        raw = await talk(path, b"")
        assert statuses(raw) == [503]
        assert b"retry-after" in raw
        application.gate.set()
        assert [statuses(raw) for raw in await asyncio.gather(*busy)] == [[200]] * 4


async def test_a_stream_waits_for_its_reader_and_ends_with_it(tmp_path: Path) -> None:
    """Back-pressure: a reader that takes nothing makes the source stop; one that leaves frees everything."""
    async with serving(tmp_path) as (server, application, path):
        reader, writer = await asyncio.open_unix_connection(str(path), limit=1024)
        writer.write(b"GET /stream HTTP/1.1\r\nHost: a\r\n\r\n")
        await reader.readline()
        made = -1
        while made != application.chunks_made:
            made = application.chunks_made
            await asyncio.sleep(0.1)
        assert made < 200
        writer.transport.abort()
        async with asyncio.timeout(5):
            while server.connections:
                await asyncio.sleep(0.01)


async def test_a_reader_that_stops_reading_is_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow reader costs its connection at most for the write deadline."""
    monkeypatch.setattr(http, "WRITE_DEADLINE_S", 0.2)
    async with serving(tmp_path) as (server, _, path):
        _, writer = await asyncio.open_unix_connection(str(path), limit=1024)
        writer.write(b"GET /stream HTTP/1.1\r\nHost: a\r\n\r\n")
        async with asyncio.timeout(5):
            while not server.connections:
                await asyncio.sleep(0.01)
            while server.connections:
                await asyncio.sleep(0.01)
        writer.close()


async def test_a_head_that_drips_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Slowloris: the deadline counts from the first byte, not from the latest."""
    monkeypatch.setattr(http, "HEAD_DEADLINE_S", 0.3)
    async with serving(tmp_path) as (_, _, path):
        reader, writer = await asyncio.open_unix_connection(str(path))

        async def drip() -> None:
            for byte in b"GET /slow HTTP/1.1\r\nHost: a\r\n" * 10:
                writer.write(bytes([byte]))
                await asyncio.sleep(0.02)

        dripping = asyncio.create_task(drip())
        async with asyncio.timeout(5):
            assert await reader.read() == b""
        dripping.cancel()
        writer.close()


def test_a_stale_socket_is_replaced_and_anything_else_is_not(tmp_path: Path) -> None:
    """A crash leaves a socket file behind: it goes. A file or a link at that path is somebody else's: refused."""
    path = tmp_path / "a.sock"
    listening_socket(path, "no-such-group", {}).close()
    sock = listening_socket(path, "no-such-group", {})
    assert path.stat().st_mode & 0o777 == 0o660
    sock.close()
    target = tmp_path / "precious"
    target.write_text("keep")
    link = tmp_path / "link.sock"
    link.symlink_to(target)
    for victim in (target, link):
        with pytest.raises(SocketFailed):
            listening_socket(victim, "no-such-group", {})
    assert target.read_text() == "keep"


def test_sockets_of_the_service_manager_are_taken_by_name(tmp_path: Path) -> None:
    """sd_listen_fds(3): only when LISTEN_PID is ours, and by FileDescriptorName."""
    assert inherited_sockets({"LISTEN_PID": "1", "LISTEN_FDS": "1"}) == {}
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(tmp_path / "given.sock"))
    saved = os.dup(3) if _is_open(3) else None
    try:
        os.dup2(sock.fileno(), 3)
        environment = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1", "LISTEN_FDNAMES": "admin.sock"}
        found = inherited_sockets(environment)
        taken = listening_socket(tmp_path / "admin.sock", "no-such-group", found)
        assert taken.getsockname() == str(tmp_path / "given.sock")
        assert not (tmp_path / "admin.sock").exists()
        taken.detach()
    finally:
        if saved is not None:
            os.dup2(saved, 3)
            os.close(saved)
        else:
            os.close(3)
        sock.close()


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def test_names_come_from_the_systems_files(tmp_path: Path) -> None:
    """passwd(5) and group(5): known ones by name, unknown ones named by number, damaged lines skipped."""
    passwd, group = tmp_path / "passwd", tmp_path / "group"
    passwd.write_text("root:x:0:0:root:/root:/bin/sh\nbroken\nmailer:x:970:970::/:/bin/false\n")
    group.write_text("root:x:0:\nnotify-admin:x:971:admin\nodd:x:none:\n")
    assert [user_name(uid, passwd) for uid in (0, 970, 5)] == ["root", "mailer", "uid 5"]
    assert [group_id(name, group) for name in ("notify-admin", "odd", "none")] == [971, None, None]
    assert (user_name(0, tmp_path / "absent"), group_id("root", tmp_path / "absent")) == ("uid 0", None)
