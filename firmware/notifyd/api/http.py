"""HTTP/1.1 over Unix sockets: h11 parses, asyncio carries, limits bound everything that a peer can spend.

Nothing here knows an operation: `accept_head` decides from the request line and headers how much body may follow (or
raises ApiProblem), `handle` gives the answer. A peer can cost at most one connection of `MAX_CONNECTIONS`, a head of
16 KiB, the body its operation allows, and the deadlines below. Requests that two parsers could read differently
(RFC 9112 §6.1: Content-Length beside Transfer-Encoding) are refused and their connection closed.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import sys
from contextlib import aclosing, suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Protocol
from urllib.parse import unquote_to_bytes

import h11

from notifyd.api.wire import BASE_HEADERS, ApiProblem, Peer, Request, Response, Stream

MAX_CONNECTIONS = 64
MAX_HEAD = 16 * 1024
HEAD_DEADLINE_S = 10.0  # from the first byte of a request to the end of its head
IDLE_DEADLINE_S = 60.0  # a kept connection without a request
WRITE_DEADLINE_S = 20.0  # a reader that takes nothing for so long is gone
LARGE_BODY = 1024 * 1024
LARGE_BODIES_AT_ONCE = 2  # each may cost a few times its size while it is parsed
READ_SIZE = 64 * 1024
LINGER_S, LINGER_SIZE = 0.5, 1024 * 1024
SILENCE_S = 0.5  # a peer that has said nothing for so long may have to make room for another
WAITS = 8  # looks for room, over two such spans, before a newcomer is told to come back
_UCRED = struct.Struct("3i")


@dataclass(frozen=True, slots=True)
class BodyLimit:
    """How much body an operation takes, and within how many seconds it must have arrived."""

    size: int = 64 * 1024
    deadline_s: float = 10.0


SMALL_BODY = BodyLimit()


class Application(Protocol):
    """What the server serves."""

    def accept_head(self, request: Request) -> BodyLimit:
        """Decides from the head alone; raises ApiProblem to refuse before a body is read."""
        ...

    async def handle(self, request: Request) -> Response | Stream:
        """The answer; must not raise anything but cancellation."""
        ...


class _Gone(Exception):
    """The peer left, or took too long to matter."""


class _Connection:
    """One peer, one request after the other."""

    def __init__(self, server: HttpServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._server, self._reader, self._writer = server, reader, writer
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
        self.peer = _peer_of(writer.get_extra_info("socket"))
        self.idle = True
        self.last_used = asyncio.get_running_loop().time()

    async def run(self) -> None:
        with suppress(_Gone, ConnectionError, TimeoutError):
            while await self._one_request():
                self._h11.start_next_cycle()
        await self._close()

    async def refuse_full(self) -> None:
        problem = ApiProblem(503, "busy", "Too many connections at once.", headers=(("retry-after", "1"),))
        with suppress(_Gone, ConnectionError, TimeoutError, h11.LocalProtocolError):
            await self._send(problem.response(), close=True)
        await self._close()

    async def _close(self) -> None:
        """Ends our side first and takes what is still coming: closing over unread bytes would reset the connection."""
        with suppress(ConnectionError, TimeoutError, OSError):
            if not self._writer.is_closing() and self._h11.their_state not in (h11.DONE, h11.CLOSED):
                self._writer.write_eof()
                async with asyncio.timeout(LINGER_S):
                    taken = 1
                    while 0 < taken < LINGER_SIZE and (piece := await self._reader.read(READ_SIZE)):
                        taken += len(piece)
        self._writer.close()

    def drop(self) -> None:
        self._writer.transport.abort()

    async def _one_request(self) -> bool:
        """Serves one request; True when the connection may carry another."""
        try:
            head = await self._read_head()
        except h11.RemoteProtocolError as error:
            await self._bad_request(error)
            return False
        if head is None:
            return False
        self.idle = False
        try:
            keep = await self._serve(head)
        finally:
            self.idle = True
            self.last_used = asyncio.get_running_loop().time()
        return keep and self._h11.our_state is h11.DONE and self._h11.their_state is h11.DONE

    async def _read_head(self) -> h11.Request | None:
        if not self._h11.trailing_data[0]:
            async with asyncio.timeout(IDLE_DEADLINE_S):
                if not await self._read_more():
                    return None
        async with asyncio.timeout(HEAD_DEADLINE_S):
            while True:
                event = self._h11.next_event()
                if event is h11.NEED_DATA:
                    if not await self._read_more():
                        self._h11.next_event()  # a truncated head raises here
                        return None
                elif isinstance(event, h11.Request):
                    return event
                else:
                    return None

    async def _read_more(self) -> bool:
        data = await self._reader.read(READ_SIZE)
        self._h11.receive_data(data)
        return bool(data)

    async def _serve(self, head: h11.Request) -> bool:
        try:
            request = _request(head, self.peer)
            limit = self._server.application.accept_head(request)
            response = await self._with_body(request, limit)
        except ApiProblem as problem:
            response = problem.response()
        except h11.RemoteProtocolError as error:
            await self._bad_request(error)
            return False
        # A body that was refused unread would be taken for the next request: close instead.
        unread = self._h11.their_state is not h11.DONE
        if isinstance(response, Stream):
            await self._send_stream(response)
            return False
        await self._send(response, close=unread, head_only=head.method == b"HEAD")
        return not unread

    async def _with_body(self, request: Request, limit: BodyLimit) -> Response | Stream:
        declared = int(request.header("content-length") or 0)
        if declared > limit.size:
            raise _too_large(limit)
        chunked = "transfer-encoding" in request.headers
        if limit.size > LARGE_BODY and (chunked or declared > LARGE_BODY):
            async with self._server.large_bodies:
                request.body = await self._read_body(limit)
                return await self._server.application.handle(request)
        request.body = await self._read_body(limit)
        return await self._server.application.handle(request)

    async def _read_body(self, limit: BodyLimit) -> bytes:
        if self._h11.they_are_waiting_for_100_continue:
            await self._write(self._h11.send(h11.InformationalResponse(status_code=100, headers=[])))
        chunks: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(limit.deadline_s):
                while True:
                    event = self._h11.next_event()
                    if event is h11.NEED_DATA:
                        if not await self._read_more():
                            self._h11.next_event()
                            raise _Gone
                    elif isinstance(event, h11.Data):
                        size += len(event.data)
                        if size > limit.size:
                            raise _too_large(limit)
                        chunks.append(bytes(event.data))
                    elif isinstance(event, h11.EndOfMessage):
                        return b"".join(chunks)
                    else:
                        raise _Gone
        except TimeoutError:
            raise ApiProblem(408, "slow-body", "The request body did not arrive in time.") from None

    async def _bad_request(self, error: h11.RemoteProtocolError) -> None:
        status = error.error_status_hint if error.error_status_hint in (400, 413, 431, 501, 505) else 400
        kind = {413: "head-too-large", 431: "head-too-large"}.get(status, "malformed")
        if self._h11.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            problem = ApiProblem(status, kind, "The request is not well-formed HTTP/1.1.")
            with suppress(h11.LocalProtocolError):
                await self._send(problem.response(), close=True)

    async def _send(self, response: Response, *, close: bool = False, head_only: bool = False) -> None:
        headers = [*BASE_HEADERS, *response.headers]
        if response.media_type:
            headers.append(("content-type", response.media_type))
        if response.status not in (204, 304):
            headers.append(("content-length", str(len(response.body))))
        if close or self._h11.their_state is h11.MUST_CLOSE:
            headers.append(("connection", "close"))
        data = (
            self._h11.send(h11.Response(status_code=response.status, headers=headers, reason=_reason(response.status)))
            or b""
        )
        if response.body and not head_only and response.status not in (204, 304):
            data += self._h11.send(h11.Data(data=response.body)) or b""
        data += self._h11.send(h11.EndOfMessage()) or b""
        await self._write(data)

    async def _send_stream(self, stream: Stream) -> None:
        headers = [*BASE_HEADERS, *stream.headers, ("content-type", stream.media_type), ("connection", "close")]
        leaving = asyncio.ensure_future(self._reader.read(1))
        writing = asyncio.ensure_future(self._write_stream(headers, stream))
        try:
            await asyncio.wait({leaving, writing}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (leaving, writing):
                task.cancel()
            await asyncio.gather(leaving, writing, return_exceptions=True)
            self.drop()

    async def _write_stream(self, headers: list[tuple[str, str]], stream: Stream) -> None:
        async with aclosing(stream.chunks) as chunks:  # type: ignore[type-var]  # every stream here is a generator
            await self._write(
                self._h11.send(h11.Response(status_code=stream.status, headers=headers, reason=_reason(stream.status)))
            )
            async for chunk in chunks:
                await self._write(self._h11.send(h11.Data(data=chunk)))

    async def _write(self, data: bytes | None) -> None:
        if not data:
            return
        if self._writer.is_closing():
            raise _Gone
        self._writer.write(data)
        async with asyncio.timeout(WRITE_DEADLINE_S):
            await self._writer.drain()


# Python 3.13 would remove the socket's file when the server stops, although the socket is systemd's and lives on.
_KEEP_THE_FILE: dict[str, Any] = {"cleanup_socket": False} if sys.version_info >= (3, 13) else {}


class HttpServer:
    """Serves one application on one listening socket."""

    def __init__(self, application: Application, max_connections: int = MAX_CONNECTIONS) -> None:
        self.application = application
        self.large_bodies = asyncio.Semaphore(LARGE_BODIES_AT_ONCE)
        self._max_connections = max_connections
        self._connections: dict[_Connection, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._waiting = 0
        self._server: asyncio.Server | None = None

    @property
    def connections(self) -> int:
        """How many peers are connected now."""
        return len(self._connections)

    async def start(self, sock: socket.socket) -> None:
        """Accepts on `sock` (bound; it is listened on here) until `stop`."""
        self._server = await asyncio.start_unix_server(self._accepted, sock=sock, backlog=128, **_KEEP_THE_FILE)

    async def stop(self, grace_s: float = 1.0) -> None:
        """Stops accepting, gives running requests `grace_s` seconds, then drops what is left."""
        if self._server is not None:
            self._server.close()
        for connection in [c for c in self._connections if c.idle]:
            connection.drop()
        tasks = list(self._tasks)
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=grace_s)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.set_write_buffer_limits(high=READ_SIZE)
        connection = _Connection(self, reader, writer)
        task = asyncio.current_task()
        if task is None:
            return
        self._tasks.add(task)
        try:
            if await self._room_for(connection.peer):
                self._connections[connection] = task
                await connection.run()
            else:
                await connection.refuse_full()
        except asyncio.CancelledError:
            connection.drop()  # by `stop`; streams of asyncio log a cancelled handler as a fault
        finally:
            self._connections.pop(connection, None)
            self._tasks.discard(task)

    async def _room_for(self, peer: Peer) -> bool:
        """Waits a moment for room: in a burst the others are done, or turn out to be silent, before long."""
        if self._make_room(peer):
            return True
        if self._waiting >= self._max_connections:
            return False
        self._waiting += 1
        try:
            for _ in range(WAITS):
                await asyncio.sleep(SILENCE_S / 4)
                if self._make_room(peer):
                    return True
            return False
        finally:
            self._waiting -= 1

    def _make_room(self, peer: Peer) -> bool:
        """True when one more may come in: the one silent longest leaves, so that idle peers cannot keep others out.

        The last place is kept for the device's own administrator (root, or the user that runs the service).
        """
        own = peer.uid in (0, os.getuid())
        if len(self._connections) < self._max_connections - (0 if own else 1):
            return True
        long_ago = asyncio.get_running_loop().time() - SILENCE_S
        silent = [each for each in self._connections if each.idle and each.last_used <= long_ago]
        if not silent:
            return False
        oldest = min(silent, key=lambda connection: connection.last_used)
        self._connections.pop(oldest, None)
        oldest.drop()
        return True


def _peer_of(sock: socket.socket) -> Peer:
    return Peer(*_UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)))


def _reason(status: int) -> bytes:
    return HTTPStatus(status).phrase.encode("ascii")


def _too_large(limit: BodyLimit) -> ApiProblem:
    return ApiProblem(413, "too-large", f"The request body may have at most {limit.size} bytes.")


def _request(head: h11.Request, peer: Peer) -> Request:
    """h11's event as our value; raises ApiProblem for what two parsers could read differently."""
    headers: dict[str, str] = {}
    for raw_name, raw_value in head.headers:
        name, value = raw_name.decode("ascii"), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    if "transfer-encoding" in headers and "content-length" in headers:
        raise ApiProblem(400, "malformed", "Content-Length and Transfer-Encoding exclude each other.")
    target = head.target.decode("ascii", "replace")
    if not target.startswith("/"):
        raise ApiProblem(400, "malformed", "The request target must be a path.")
    raw_path, _, query = target.partition("?")
    return Request(head.method.decode("ascii"), _path(raw_path), query, headers, peer=peer)


def _path(raw: str) -> str:
    try:
        path = unquote_to_bytes(raw).decode()
    except UnicodeDecodeError:
        raise ApiProblem(400, "malformed", "The path is not UTF-8.") from None
    if "%2f" in raw.lower() or any(ord(character) < 32 or ord(character) == 127 for character in path):
        raise ApiProblem(400, "malformed", "The path holds characters that no path here has.")
    return path
