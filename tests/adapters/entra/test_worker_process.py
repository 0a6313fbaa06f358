"""Real worker processes: what they leave behind, what they show, how they end."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from notifyd.adapters.entra import BegunSignin, Entra
from notifyd.core.events import Failure, FailureKind, GrantResult
from notifyd.core.secret import Secret
from qemu.m365.simulator import ThreadedSimulator
from tests.adapters.entra.conftest import REDIRECT_URI, SENDER, Device, children, with_entra
from tests.m365.browser import Browser


def _workers() -> dict[int, str]:
    return {pid: line for pid, line in children().items() if "entra_worker" in line}


def _until(holds: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "the condition did not come about"
        time.sleep(0.02)


def test_whole_life_of_a_grant_through_workers(device: Device, browser: Browser) -> None:
    """Seal, begin, redeem, refresh, open: the parent sees values of the core, and secrets only as Secret."""

    async def live(entra: Entra) -> None:
        sealed = await entra.seal({"client_secret": Secret("x"), "password": Secret("pä ss")})
        assert isinstance(sealed, bytes)
        replaced = await entra.seal({"client_secret": Secret("Simulated-Secret")}, keep=sealed)
        assert isinstance(replaced, bytes)
        assert await entra.open_password(replaced) == Secret("pä ss")
        begun = await entra.begin(device.settings, device.cloud, REDIRECT_URI, SENDER, "", device.secrets)
        assert isinstance(begun, BegunSignin)
        params = browser.sign_in(begun.authorize_url).params
        result = await entra.redeem(begun, params, device.settings, device.cloud, device.secrets, 7)
        assert isinstance(result, GrantResult), result
        assert result.account == SENDER
        assert "[secret]" in repr(result)
        renewed = await entra.refresh(device.settings, device.cloud, device.secrets, result.sealed, 7, 8)
        assert isinstance(renewed, GrantResult), renewed
        token = await entra.open_access_token(device.settings, renewed.sealed, 8)
        assert token == renewed.access_token
        proved = await entra.prove_secret(device.settings, device.cloud, device.secrets, renewed.sealed, 8, 9)
        assert isinstance(proved, GrantResult), proved

    with_entra(device, live)
    assert not _workers()


def test_hanging_microsoft_never_outlasts_the_deadline(sim: ThreadedSimulator, device: Device) -> None:
    """The worker itself says what hung, before the parent would have to end it."""
    sim.order("discovery", "hang")

    async def begin(entra: Entra) -> BegunSignin | Failure:
        return await entra.begin(device.settings, device.cloud, REDIRECT_URI, SENDER, "", device.secrets)

    start = time.monotonic()
    failure = with_entra(device, begin, deadline_s=4.0)
    assert isinstance(failure, Failure)
    assert failure.kind is FailureKind.TIMEOUT
    assert time.monotonic() - start < 6
    assert not _workers()


def test_stopped_worker_is_ended_at_the_deadline(device: Device) -> None:
    """A worker that does not move at all is killed by its parent."""

    async def stop_and_ask(entra: Entra) -> bytes | Failure:
        await entra.warm()
        (pid,) = _workers()
        os.kill(pid, signal.SIGSTOP)
        return await entra.seal({"password": Secret("x")})

    failure = with_entra(device, stop_and_ask, deadline_s=1.0)
    assert isinstance(failure, Failure)
    assert (failure.kind, failure.error) == (FailureKind.TIMEOUT, "worker_deadline")
    assert not _workers()


def test_killed_worker_is_a_failure_not_a_crash(device: Device) -> None:
    """The out-of-memory killer may take a worker at any time; the next one works."""

    async def kill_and_ask(entra: Entra) -> bytes | Failure:
        await entra.warm()
        (pid,) = _workers()
        os.kill(pid, signal.SIGSTOP)
        asked = asyncio.create_task(entra.seal({"password": Secret("x")}))
        await asyncio.sleep(0.1)
        os.kill(pid, signal.SIGKILL)
        failure = await asked
        assert isinstance(failure, Failure)
        assert (failure.kind, failure.error) == (FailureKind.WORKER, "worker_died")
        return await entra.seal({"password": Secret("x")})

    assert isinstance(with_entra(device, kill_and_ask), bytes)


def test_cancelled_operation_ends_its_worker(device: Device) -> None:
    """Shutting down in the middle of an operation leaves no process."""

    async def cancel(entra: Entra) -> None:
        await entra.warm()
        (pid,) = _workers()
        os.kill(pid, signal.SIGSTOP)
        asked = asyncio.create_task(entra.seal({"password": Secret("x")}))
        await asyncio.sleep(0.1)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        assert not _workers()

    with_entra(device, cancel)


def test_spare_lives_only_while_asked_for(device: Device) -> None:
    """warm() keeps exactly one worker, also after one was used; cool() ends it."""

    async def use(entra: Entra) -> None:
        await entra.warm()
        await entra.warm()
        assert len(_workers()) == 1
        assert isinstance(await entra.seal({"password": Secret("x")}), bytes)
        assert len(_workers()) == 1
        await entra.cool()
        assert not _workers()

    with_entra(device, use)


def test_many_operations_at_once_run_a_few_workers_at_a_time(device: Device) -> None:
    """Twelve operations at once all succeed, with at most four processes."""

    async def use(entra: Entra) -> int:
        most = 0
        tasks = [asyncio.create_task(entra.seal({"password": Secret(str(n))})) for n in range(12)]
        while not all(task.done() for task in tasks):
            most = max(most, len(_workers()))
            await asyncio.sleep(0.01)
        assert not [task.result() for task in tasks if not isinstance(task.result(), bytes)]
        return most

    assert 1 <= with_entra(device, use) <= 4


def test_no_worker_outlives_its_parent(device: Device, tmp_path: Path) -> None:
    """kill -9 on the service takes its worker along, even one that is stopped in its work."""
    program = tmp_path / "parent.py"
    program.write_text(
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from notifyd.adapters.entra import Entra\n"
        "async def main():\n"
        "    entra = Entra(Path(sys.argv[1]))\n"
        "    await entra.warm()\n"
        "    print(entra._spare.pid, flush=True)\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, program, device.key], stdout=subprocess.PIPE, text=True, env=environment
    ) as parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        _until(lambda: "No such" in _status(worker) or "PDEATHSIG" in _status(worker) or _confined(worker))
        parent.kill()
    _until(lambda: not Path(f"/proc/{worker}").exists() or " Z " in Path(f"/proc/{worker}/stat").read_text())


def _status(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return "No such process"


def _confined(pid: int) -> bool:
    """Whether the worker has given up core dumps, which is among the first things it does."""
    limits = Path(f"/proc/{pid}/limits").read_text()
    return any(line.split()[4:6] == ["0", "0"] for line in limits.splitlines() if line.startswith("Max core"))


def test_nothing_secret_is_in_the_command_line_or_environment(device: Device) -> None:
    """Secrets travel over a pipe; a core file or another process cannot have them."""
    canary = "Canary-7f3a9"

    async def look(entra: Entra) -> None:
        await entra.warm()
        (pid,) = _workers()
        _until(lambda: _confined(pid))
        asked = asyncio.create_task(entra.seal({"client_secret": Secret(canary)}))
        await asyncio.sleep(0)
        shown = Path(f"/proc/{pid}/cmdline").read_bytes() + Path(f"/proc/{pid}/environ").read_bytes()
        assert canary.encode() not in shown
        assert isinstance(await asked, bytes)

    with_entra(device, look)


@pytest.mark.parametrize(
    "line",
    [b"", b"\n", b"not json\n", b"[]\n", b"{}\n", b'{"op": "nothing"}\n', b'{"op": "seal"}\n', b"x" * 600000 + b"\n"],
)
def test_bad_request_never_prints_a_traceback(line: bytes) -> None:
    """Whatever comes in: one answer line at most, nothing on stderr."""
    process = subprocess.run(
        [sys.executable, "-m", "notifyd.adapters.entra_worker", str(os.getpid())],
        input=line,
        capture_output=True,
        timeout=20,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.stderr == b""
    assert process.stdout.count(b"\n") <= 1


def test_missing_device_key_is_a_store_failure(device: Device) -> None:
    """Without its key a device can open nothing, and says so."""
    device.key.unlink()

    async def seal(entra: Entra) -> Any:
        return await entra.seal({"password": Secret("x")})

    failure = with_entra(device, seal)
    assert isinstance(failure, Failure)
    assert (failure.kind, failure.error) == (FailureKind.STORE, "device_key")
