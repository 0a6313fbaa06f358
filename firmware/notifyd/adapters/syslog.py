"""Takes events to log collectors over UDP, TCP and TLS.

The ring is the queue: a forwarder follows the event log from the record it delivered last, so that an outage of hours
costs no memory. Nothing is polled: without news, and while a collector is away with nothing to say to it, a forwarder
sleeps.

Syslog has no acknowledgement. What the collector's own TCP has not acknowledged yet (SIOCOUTQ) counts as not delivered
and is sent again over the next connection, so that an ending connection loses nothing; a collector may see such a
record twice and can tell by its `meta sequenceId`.
"""

from __future__ import annotations

import asyncio
import fcntl
import random
import socket
import ssl
import struct
import termios
from collections.abc import Awaitable, Callable
from contextlib import suppress

from notifyd.adapters.eventlog import EventLog
from notifyd.core.collectors import Collector, Transport
from notifyd.core.eventlog import Record
from notifyd.core.rfc5424 import Origin, family, line_framed, octet_counted, rfc5424

BATCH = 50  # records between two looks at the acknowledgements; bounds what may be sent twice
TCP_ESTABLISHED = 1  # linux/tcp.h: the first member of struct tcp_info
CONNECT_S = 10.0
ACKNOWLEDGE_S = 15.0  # a peer that acknowledges nothing for so long is gone
FIRST_RETRY_S, MAX_RETRY_S = 1.0, 300.0


class Forwarder:
    """Sends what one collector wants. `run` is a task that ends when it is cancelled or the log is closed.

    sent, dropped: records so far, for metrics; reachable: None until the first try.
    """

    def __init__(self, log: EventLog, collector: Collector, origin: Origin, *, first_id: int | None = None) -> None:
        self.collector = collector
        self.sent = 0
        self.dropped = 0
        self.reachable: bool | None = None
        self._log = log
        self._origin = origin
        self._at = log.last_id if first_id is None else first_id - 1
        self._dropped_in_outage = 0
        self._connection: _Connection | None = None

    async def run(self) -> None:
        """Delivers records until cancelled."""
        retry_s = FIRST_RETRY_S
        try:
            while await self._log.news_after(self._at):
                self._drop_what_is_too_much()
                try:
                    await self._deliver()
                except (OSError, ssl.SSLError, TimeoutError, EOFError) as fault:
                    await self._disconnect()
                    self._unreachable(fault)
                    # Jitter, so that a hundred gateways do not meet a restarted collector in the same second.
                    await asyncio.sleep(retry_s * random.uniform(0.8, 1.2))  # noqa: S311  # not for secrets
                    retry_s = min(retry_s * 2, MAX_RETRY_S)
                else:
                    retry_s = FIRST_RETRY_S
        finally:
            await self._disconnect()

    async def _deliver(self) -> None:
        """Sends everything there is, in batches; `_at` moves only over what was delivered."""
        while True:
            seen = self._log.last_id
            batch = self._log.query(after=self._at, limit=BATCH, level=self.collector.level)
            wanted = [record for record in batch if self._wants(record)]
            if wanted:
                await self._send(wanted)
                self._restored()
            self._at = batch[-1].id if len(batch) == BATCH else max(seen, self._at)
            self.sent += len(wanted)
            if len(batch) < BATCH:
                return

    def _wants(self, record: Record) -> bool:
        return not self.collector.categories or record.category in self.collector.categories

    async def _send(self, records: list[Record]) -> None:
        if self._connection is not None and self._connection.ended:
            await self._disconnect()
        if self._connection is None:
            async with asyncio.timeout(CONNECT_S):
                self._connection = await _CONNECT[self.collector.transport](self.collector)
        encode = family if self.collector.family_layout else rfc5424
        async with asyncio.timeout(ACKNOWLEDGE_S):
            await self._connection.send([encode(record, self._origin) for record in records])

    def _drop_what_is_too_much(self) -> None:
        """Beyond the backlog the oldest are skipped and counted."""
        first = self._log.last_id - self.collector.backlog
        if self._at < first:
            skipped = self._log.count(after=self._at, upto=first, level=self.collector.level)
            self._at = first
            self.dropped += skipped
            self._dropped_in_outage += skipped

    def _unreachable(self, fault: BaseException) -> None:
        if self.reachable is not False:
            self.reachable = False
            reason = str(fault) or type(fault).__name__
            self._log.emit("syslog.unreachable", collector=self.collector.name, reason=reason)

    def _restored(self) -> None:
        if self.reachable is False or self._dropped_in_outage:
            dropped, self._dropped_in_outage = self._dropped_in_outage, 0
            self._log.emit("syslog.restored", collector=self.collector.name, dropped=dropped)
        self.reachable = True

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()


class _Connection:
    """One way to a collector."""

    @property
    def ended(self) -> bool:
        """Whether it is known to lead nowhere any more."""
        return False

    async def send(self, messages: list[bytes]) -> None:
        """Returns when the collector's side has all of it. Raises OSError when it may not."""
        raise OSError("not connected")

    async def close(self) -> None:
        """Gives the socket back."""


class _Datagrams(_Connection):
    """RFC 5426: one message a datagram. Connected, so that "port unreachable" comes back as an error."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected

    @classmethod
    async def connect(cls, collector: Collector) -> _Connection:
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(collector.host, collector.port, type=socket.SOCK_DGRAM)
        kind, _, protocol, _, address = found[0]
        connected = socket.socket(kind, socket.SOCK_DGRAM, protocol)
        connected.setblocking(False)
        connected.connect(address)
        return cls(connected)

    async def send(self, messages: list[bytes]) -> None:
        loop = asyncio.get_running_loop()
        for message in messages:
            await loop.sock_sendall(self._socket, message)

    async def close(self) -> None:
        self._socket.close()


class _Stream(_Connection):
    """RFC 6587 over TCP, RFC 5425 over TLS."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, frame: Callable[[bytes], bytes]
    ) -> None:
        self._writer = writer
        self._socket = writer.get_extra_info("socket")  # kept: a TLS transport forgets it when the connection ends
        self._frame = frame
        self._read_out = False
        # A collector says nothing; what can be read is the end of the connection, known before the next record is lost.
        self._watch = asyncio.create_task(self._read_to_the_end(reader))

    @classmethod
    async def connect(cls, collector: Collector) -> _Connection:
        frame = line_framed if collector.newline_framing else octet_counted
        context = None
        if collector.transport is Transport.TLS:
            frame = octet_counted
            context = tls_context(collector)
        reader, writer = await asyncio.open_connection(
            collector.host, collector.port, ssl=context, limit=4096, happy_eyeballs_delay=0.25
        )
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        return cls(reader, writer, frame)

    async def send(self, messages: list[bytes]) -> None:
        self._writer.write(b"".join(map(self._frame, messages)))
        await self._writer.drain()
        pause = 0.001
        while self._unacknowledged():
            if self.ended:
                raise ConnectionResetError("the collector ended the connection")
            await asyncio.sleep(pause)
            pause = min(pause * 2, 0.5)
        if self.ended:
            raise ConnectionResetError("the collector ended the connection")

    async def close(self) -> None:
        self._watch.cancel()
        if not self._writer.is_closing():  # a second close() makes Python 3.11.2's TLS transport forget its protocol
            self._writer.close()
        with suppress(OSError, ssl.SSLError, TimeoutError, asyncio.CancelledError):
            async with asyncio.timeout(1):
                await self._writer.wait_closed()
        self._writer.transport.abort()
        await asyncio.gather(self._watch, return_exceptions=True)

    def _unacknowledged(self) -> int:
        """Bytes that the peer's TCP has not acknowledged, and those still on their way to ours."""
        transport = self._writer.transport
        waiting = transport.get_write_buffer_size()
        descriptor = self._socket.fileno()
        if descriptor < 0:
            raise ConnectionResetError("the connection is closed")
        queued: int = struct.unpack("i", fcntl.ioctl(descriptor, termios.TIOCOUTQ, b"\0\0\0\0"))[0]
        return waiting + queued

    async def _read_to_the_end(self, reader: asyncio.StreamReader) -> None:
        with suppress(OSError, ssl.SSLError):
            while await reader.read(4096):
                pass
        self._read_out = True

    @property
    def ended(self) -> bool:
        """Also asked of the kernel: asyncio's TLS in Python 3.11.2 does not always pass the peer's end on."""
        descriptor = self._socket.fileno()
        if self._read_out or descriptor < 0:
            return True
        state: int = self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
        return state != TCP_ESTABLISHED


def tls_context(collector: Collector) -> ssl.SSLContext:
    """TLS 1.2 or newer; the collector's certificate is checked for its name (RFC 5425 §5.2)."""
    context = ssl.create_default_context(cafile=collector.ca_file or None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if collector.cert_file:
        context.load_cert_chain(collector.cert_file, collector.key_file or None)
    return context


_CONNECT: dict[Transport, Callable[[Collector], Awaitable[_Connection]]] = {
    Transport.UDP: _Datagrams.connect,
    Transport.TCP: _Stream.connect,
    Transport.TLS: _Stream.connect,
}
