"""The whole simulator: start, stop, and where to find its parts."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import logging
import ssl
import tempfile
import threading
from collections.abc import Generator, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from qemu.m365.authority import TlsMaterial
from qemu.m365.catalogue import expand
from qemu.m365.control import Control
from qemu.m365.directory import CLIENT_ID, CLIENT_SECRET, SMTP_SCOPE, TENANT_ID
from qemu.m365.idp import IdentityProvider
from qemu.m365.orders import Order
from qemu.m365.servers import WebServer, listen
from qemu.m365.smtp_handler import Handler
from qemu.m365.smtp_server import ExchangeSmtp
from qemu.m365.world import World

CLOUD = "simulated"


@dataclass(frozen=True)
class Endpoints:
    """Where the simulator answers, and the demo tenant's values; printed as one JSON line by the program."""

    idp: str
    smtp: tuple[str, int]
    control: str
    mailbox: str
    ca_file: str
    clouds_file: str
    tenant_id: str
    client_id: str
    client_secret: str
    users: list[dict[str, str]]

    def as_line(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self))


class Simulator:
    """Simulated Microsoft 365 in the running event loop, as an async context manager.

    directory: where certificates and `clouds.d/m365.toml` go; a temporary one when None.
    Ports 0 take free ones. `host` is the name in the addresses; `names` go into the certificates besides.
    """

    def __init__(
        self,
        directory: Path | None = None,
        *,
        idp_port: int = 0,
        smtp_port: int = 0,
        control_port: int = 0,
        host: str = "localhost",
        bind: str = "127.0.0.1",
        names: Iterable[str] = (),
        redirect_uris: Iterable[str] = (),
    ) -> None:
        self.world = World(tuple(redirect_uris))
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._directory = directory
        self._ports = (idp_port, smtp_port, control_port)
        self._host, self._bind = host, bind
        self._names = tuple(names)
        self._cleanup = contextlib.AsyncExitStack()
        self._connections: set[ExchangeSmtp] = set()
        self.endpoints: Endpoints

    async def __aenter__(self) -> Simulator:
        if self._directory is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="m365-")
            self._directory = Path(self._temporary.name)
        logging.getLogger("mail.log").setLevel(logging.CRITICAL)
        tls = TlsMaterial(self._directory / "tls", (self._host, *self._names))
        try:
            await self._start(self._directory, tls)
        except BaseException:
            await self._cleanup.aclose()
            raise
        return self

    async def _start(self, directory: Path, tls: TlsMaterial) -> None:
        idp_port, smtp_port, control_port = self._ports
        idp_socket, control_socket = listen(self._bind, idp_port), listen("127.0.0.1", control_port)
        origin = f"https://{self._host}:{idp_socket.getsockname()[1]}"
        self.world.issuer.origin = origin
        context = self._chosen_context(tls, "idp")
        for app, listener, ssl_context in (
            (IdentityProvider(self.world).app, idp_socket, context),
            (Control(self.world).app, control_socket, None),
        ):
            server = WebServer(app, listener, ssl_context)
            await server.start()
            self._cleanup.push_async_callback(server.stop)
        smtp_listener = listen(self._bind, smtp_port)
        smtp_port = smtp_listener.getsockname()[1]
        loop = asyncio.get_running_loop()
        factory = functools.partial(self._connection, self._chosen_context(tls, "smtp"), loop)
        smtp = await loop.create_server(factory, sock=smtp_listener)
        self._cleanup.push_async_callback(self._stop_smtp, smtp)
        clouds_file = directory / "clouds.d" / "m365.toml"
        self._write_cloud(clouds_file, tls.ca_file, origin, smtp_port)
        control = f"http://127.0.0.1:{control_socket.getsockname()[1]}"
        self.endpoints = self._describe(origin, smtp_port, control, tls.ca_file, clouds_file)

    def _chosen_context(self, tls: TlsMaterial, part: str) -> ssl.SSLContext:
        """A context that shows the good certificate, unless an order wants a bad one for this handshake."""

        def choose(connection: ssl.SSLObject, name: str | None, current: ssl.SSLContext) -> None:
            order = self.world.orders.take("tls", part=part)
            if order is not None:
                connection.context = tls.context(order.what)

        return tls.context("good", choose)

    def _connection(self, context: ssl.SSLContext, loop: asyncio.AbstractEventLoop) -> ExchangeSmtp:
        connection = ExchangeSmtp(self.world, Handler(self.world), context, loop)
        self._connections.add(connection)
        connection.on_lost = self._connections.discard
        return connection

    async def _stop_smtp(self, server: asyncio.Server) -> None:
        server.close()
        for connection in list(self._connections):
            connection.abort()
        await server.wait_closed()

    def _write_cloud(self, path: Path, ca_file: Path, origin: str, smtp_port: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        values = {
            "title": "Simulated Microsoft 365",
            "authority": origin,
            "scope": SMTP_SCOPE,
            "smtp_host": self._host,
            "smtp_port": smtp_port,
            "ca_file": str(ca_file.resolve()),
        }
        lines = [f"{name} = {json.dumps(value)}" for name, value in values.items()]
        path.write_text("\n".join([f"[{CLOUD}]", *lines, ""]))

    def _describe(self, origin: str, smtp_port: int, control: str, ca_file: Path, clouds_file: Path) -> Endpoints:
        users = [{"upn": u.upn, "password": u.password, "kind": u.kind} for u in self.world.directory.users.values()]
        return Endpoints(
            idp=origin,
            smtp=(self._host, smtp_port),
            control=control,
            mailbox=f"{control}/mailbox",
            ca_file=str(ca_file.resolve()),
            clouds_file=str(clouds_file.resolve()),
            tenant_id=TENANT_ID,
            client_id=CLIENT_ID,
            client_secret=CLIENT_SECRET,
            users=users,
        )

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._cleanup.aclose()
        # Aborted transports close their sockets in the loop's next turns.
        await asyncio.sleep(0.01)
        if self._temporary is not None:
            self._temporary.cleanup()

    # ---- conveniences of tests ------------------------------------------------------------------------------------

    def order(self, target: str, what: str, *, times: int | None = 1, **params: Any) -> Order:
        """Order a failure, as POST /orders does."""
        return self.world.orders.add(expand({"target": target, "what": what, "times": times, **params}))


class ThreadedSimulator:
    """A simulator in a thread of its own; `call` runs a function in its loop."""

    def __init__(self, simulator: Simulator, loop: asyncio.AbstractEventLoop) -> None:
        self.simulator = simulator
        self.endpoints = simulator.endpoints
        self.world = simulator.world
        self._loop = loop

    def order(self, target: str, what: str, *, times: int | None = 1, **params: Any) -> Order:
        """Order a failure (thread-safe)."""

        async def place() -> Order:
            return self.simulator.order(target, what, times=times, **params)

        return asyncio.run_coroutine_threadsafe(place(), self._loop).result(10)

    def reset(self) -> None:
        """As after a fresh start (thread-safe)."""

        async def clean() -> None:
            self.world.reset()

        asyncio.run_coroutine_threadsafe(clean(), self._loop).result(10)


@contextlib.contextmanager
def start_in_thread(directory: Path | None = None, **options: Any) -> Generator[ThreadedSimulator]:
    """Run a simulator beside synchronous code; options as for Simulator. Raises what its start raises."""
    started: threading.Event = threading.Event()
    box: dict[str, Any] = {}

    async def run() -> None:
        stop = asyncio.Event()
        try:
            async with Simulator(directory, **options) as simulator:
                loop = asyncio.get_running_loop()
                box.update(running=ThreadedSimulator(simulator, loop), stop=lambda: loop.call_soon_threadsafe(stop.set))
                started.set()
                await stop.wait()
        except BaseException as error:
            box.setdefault("error", error)
            raise
        finally:
            started.set()

    thread = threading.Thread(target=lambda: asyncio.run(run()), name="m365", daemon=True)
    thread.start()
    started.wait()
    if "running" not in box:
        thread.join()
        raise box["error"]
    try:
        yield box["running"]
    finally:
        box["stop"]()
        thread.join(10)
