"""uvicorn inside a loop that is not its own, with the hooks that misbehaviour needs."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Generator
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

_SHUTDOWN_SECONDS = 1


class ReachableProtocol(H11Protocol):
    """Hands the transport to the application (`scope["state"]["transport"]`), so that it can cut connections."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn itself does
        """A client came."""
        super().connection_made(transport)
        self.app_state = {**self.app_state, "transport": transport}


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """Signals belong to the program, not to one of its servers."""
        yield


class WebServer:
    """One ASGI application on one socket."""

    def __init__(self, app: ASGIApp, listener: socket.socket, context: ssl.SSLContext | None = None) -> None:
        options: dict[str, Any] = {"http": ReachableProtocol, "loop": "asyncio", "lifespan": "off"}
        options |= {"log_config": None, "log_level": "error", "access_log": False, "server_header": False}
        config = uvicorn.Config(app, timeout_graceful_shutdown=_SHUTDOWN_SECONDS, ws="none", **options)
        config.load()
        config.ssl = context
        self._server = _Server(config)
        self._listener = listener
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Return when it answers."""
        self._task = asyncio.create_task(self._server.serve([self._listener]))
        while not self._server.started:
            if self._task.done():
                self._task.result()
                raise RuntimeError("the web server ended at its start")
            await asyncio.sleep(0.005)

    async def stop(self) -> None:
        """End it and its connections at once: a TLS connection that is merely closed waits for its peer."""
        # What is cut short now would be reported as errors of the application.
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL + 1)
        for connection in list(self._server.server_state.connections):
            connection.transport.abort()
        self._server.should_exit = True
        if self._task is not None:
            await self._task
        self._listener.close()


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one."""
    listener = socket.create_server(
        (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=128
    )
    # asyncio does this only for sockets made with an explicit protocol; without it every answer of more
    # than one piece waits 40 ms for the client's delayed acknowledgement.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener
