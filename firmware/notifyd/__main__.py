"""`python -m notifyd`: the composition root. The only module that knows every other; it decides nothing."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from notifyd import __version__
from notifyd.adapters import pam, smtp
from notifyd.adapters.clock import boot_id, now
from notifyd.adapters.config import ConfigError, load_clouds
from notifyd.adapters.database import SettingsStore, open_database
from notifyd.adapters.devicekey import device_key_path
from notifyd.adapters.entra import Entra
from notifyd.adapters.eventlog import EventLog, bridge_libraries
from notifyd.adapters.journal import system_sink
from notifyd.adapters.process import AlreadyRunning, keep_memory_private, lock_directory, use_memory_sparingly
from notifyd.adapters.queue import MailQueue
from notifyd.adapters.systemd import Manager
from notifyd.adapters.vault import Vault
from notifyd.api.access import Gatekeeper
from notifyd.api.app import ApiApplication
from notifyd.api.callback import CallbackApplication
from notifyd.api.http import HttpServer
from notifyd.api.sockets import SocketFailed, inherited_sockets, listening_socket
from notifyd.api.table import TABLE
from notifyd.api.wire import Request
from notifyd.consumers import Consumers, Surroundings
from notifyd.core.agent import Agent
from notifyd.core.clouds import Cloud
from notifyd.core.events import RefreshRequested, SettingsApplied, WanDown, WanUp
from notifyd.core.faults import StoreFailed
from notifyd.core.problem import Problem
from notifyd.core.snapshot import Snapshot, UnreadableSnapshot, from_json
from notifyd.desk import MailDesk
from notifyd.gateway import LiveGateway
from notifyd.mailer import Account, Emit, Mailer
from notifyd.network import Network
from notifyd.options import USAGE, Options, UsageError, parse
from notifyd.recovery import change_since, reconcile
from notifyd.service import SNAPSHOT, Login, Parts, Service

STOP_GRACE_S = 2.0
ADMIN_GROUP, CALLBACK_GROUP = "notify-admin", "notify-cgi"
EXIT_FAULT, EXIT_USAGE, EXIT_RUNNING = 1, 64, 75  # sysexits.h for all but the first


@dataclass(frozen=True, slots=True)
class Roots:
    """Where everything is; each can be moved by an environment variable."""

    etc: Path
    data: Path
    run: Path

    @classmethod
    def from_environment(cls) -> Roots:
        """NOTIFYD_ETC, NOTIFYD_DATA and NOTIFYD_RUN, or their places on the device."""
        return cls(
            Path(os.environ.get("NOTIFYD_ETC", "/etc/notifyd")).absolute(),
            Path(os.environ.get("NOTIFYD_DATA", "/data/notifyd")).absolute(),
            Path(os.environ.get("NOTIFYD_RUN", "/run/notifyd")).absolute(),
        )


def main(arguments: list[str] | None = None) -> int:
    """Runs the service until SIGTERM or a fault; returns the exit status."""
    try:
        options = parse(sys.argv[1:] if arguments is None else arguments)
    except UsageError as error:
        sys.stderr.write(f"notifyd: {error}\n{USAGE}")
        return EXIT_USAGE
    if options.show:
        sys.stdout.write(USAGE if options.show == "help" else f"{__version__}\n")
        return 0
    roots = Roots.from_environment()
    keep_memory_private()
    use_memory_sparingly()
    os.umask(0o077)
    try:
        roots.data.mkdir(parents=True, exist_ok=True)
        roots.run.mkdir(mode=0o755, parents=True, exist_ok=True)
        lock = lock_directory(roots.data)
    except (AlreadyRunning, OSError) as error:
        sys.stderr.write(f"notifyd: {error}\n")
        return EXIT_RUNNING
    try:
        return asyncio.run(_run(options, roots))
    except (StoreFailed, SocketFailed, OSError) as error:
        sys.stderr.write(f"notifyd: {error}\n")
        return EXIT_FAULT
    finally:
        os.close(lock)


async def _run(options: Options, roots: Roots) -> int:
    manager = Manager()
    async with AsyncExitStack() as stack:
        log = EventLog(roots.data / "events.db", sinks=(system_sink(),))
        first_event = log.last_id + 1
        stack.callback(log.close)
        bridge_libraries(log)
        try:
            service, gateway, network, mailer = _compose(options, roots, log, first_event, stack)
        except StoreFailed as error:
            log.emit("store.corrupt", reason=str(error))
            raise
        stack.push_async_callback(service.stop)
        sending = asyncio.get_running_loop().create_task(_send_mail(mailer, service))
        stack.push_async_callback(_end, sending)
        gateway.consumers.start()
        stack.push_async_callback(gateway.consumers.stop)
        await _serve(roots, gateway, log, stack)
        reason = await _live(service, network, manager, log)
        manager.tell(STOPPING="1")
        log.emit("service.stopped", reason=reason)
        return EXIT_FAULT if service.failed.done() else 0


def _compose(
    options: Options, roots: Roots, log: EventLog, first_event: int, stack: AsyncExitStack
) -> tuple[Service, LiveGateway, Network, Mailer]:
    credentials = os.environ.get("CREDENTIALS_DIRECTORY")
    key = device_key_path(roots.data, Path(credentials) if credentials else None)
    database = open_database(roots.data / "notifyd.db")
    stack.callback(database.close)
    store = SettingsStore(database)
    vault = Vault(roots.data / "grant.slots")
    stack.callback(vault.close)
    stored = store.load()
    snapshot = reconcile(_snapshot(store, log), vault.load(), stored.settings if stored else None)
    moment = now()
    agent = Agent(random.SystemRandom(), snapshot, moment, boot_id())
    service = Service(Parts(log, store, vault, Entra(key), _probe, _clouds(roots, log)), agent)
    queue = MailQueue(database, now=now, boot_id=boot_id())
    mailer = Mailer(
        queue, account=_account(service), report=service.post, emit=_emitter(log), now=now, chance=random.SystemRandom()
    )
    service.gate = mailer
    host = (*options.name, socket.gethostname())[0]
    desk = MailDesk(queue, mailer, service, host)
    consumers = Consumers(Surroundings(log, store, desk, roots.etc, roots.run, host, first_event))
    log.emit("service.started", version=__version__, state=agent.status(moment).state.value)
    network = Network(options.lan_interface, options.name, options.https_port, log, _wan_news(service, mailer))
    network.look()
    if stored is not None:
        change = change_since(snapshot, stored.settings)
        service.post(SettingsApplied(stored.settings, change, bool(stored.sealed_secret)))
        if queue.waiting():
            service.post(RefreshRequested("mail-waiting"))
    return service, LiveGateway(service, desk, network, consumers), network, mailer


def _snapshot(store: SettingsStore, log: EventLog) -> Snapshot | None:
    document = store.document(SNAPSHOT)
    try:
        return from_json(document) if document else None
    except UnreadableSnapshot as error:
        log.emit("store.corrupt", reason=str(error))
        return None


def _clouds(roots: Roots, log: EventLog) -> dict[str, Cloud]:
    try:
        return load_clouds(roots.etc)
    except ConfigError as error:
        log.emit("service.config_invalid", file=str(roots.etc / "clouds.toml"), reason=str(error))
        return load_clouds(Path("/nonexistent"))


def _wan_news(service: Service, mailer: Mailer) -> Callable[[bool], None]:
    def news(up: bool) -> None:
        if up:
            mailer.wan_up()
        service.post(WanUp() if up else WanDown())

    return news


def _emitter(log: EventLog) -> Emit:
    def emit(event: str, /, **fields: object) -> object:
        return log.emit(event, **dict[str, Any](fields))

    return emit


def _account(service: Service) -> Callable[[], Awaitable[Account | None]]:
    async def account() -> Account | None:
        login = await service.login()
        if isinstance(login, Problem):
            return None
        return Account(_target(login), login.settings.sender, login.username, login.settings.auth, login.secret)

    return account


async def _probe(login: Login) -> Problem | None:
    return await smtp.probe(_target(login), login.settings.auth, login.username, login.secret, now().wall)


def _target(login: Login) -> smtp.SmtpTarget:
    settings, ca_file = login.settings, login.cloud.ca_file
    return smtp.SmtpTarget(settings.server, settings.port, settings.security, Path(ca_file) if ca_file else None)


async def _send_mail(mailer: Mailer, service: Service) -> None:
    try:
        await mailer.run()
    except StoreFailed as error:
        service.fail(str(error))


async def _serve(roots: Roots, gateway: LiveGateway, log: EventLog, stack: AsyncExitStack) -> None:
    def report_login(event: str, user: str, remote: str) -> None:
        log.emit(event, user=user, remote=remote)

    def report_fault(request: Request, error: BaseException) -> None:
        log.emit("service.fault", reason=type(error).__name__, where=f"{request.method} {request.path}", exc_info=error)

    gatekeeper = Gatekeeper(pam.check, report_login)
    inherited = inherited_sockets(os.environ)
    applications = (
        ("admin.sock", ADMIN_GROUP, ApiApplication(TABLE, gateway, gatekeeper, report_fault)),
        ("callback.sock", CALLBACK_GROUP, CallbackApplication(gateway, report_fault)),
    )
    for name, group, application in applications:
        server = HttpServer(application)
        await server.start(listening_socket(roots.run / name, group, inherited))
        stack.push_async_callback(server.stop)


async def _live(service: Service, network: Network, manager: Manager, log: EventLog) -> str:
    """Waits for the end and gives its reason."""
    loop = asyncio.get_running_loop()
    stopped: asyncio.Future[str] = loop.create_future()

    def stop(name: str) -> None:
        if not stopped.done():
            stopped.set_result(name)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop, number.name)
    watch = loop.create_task(network.follow())
    feeding = loop.create_task(_feed_watchdog(manager))
    manager.tell(READY="1", STATUS="serving")
    try:
        await asyncio.wait({stopped, service.failed}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (watch, feeding):
            task.cancel()
        await asyncio.gather(watch, feeding, return_exceptions=True)
    return stopped.result() if stopped.done() else service.failed.result()


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def _feed_watchdog(manager: Manager) -> None:
    while manager.watchdog_s is not None:
        manager.tell(WATCHDOG="1")
        await asyncio.sleep(manager.watchdog_s)


if __name__ == "__main__":
    sys.exit(main())
