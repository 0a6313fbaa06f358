"""Child processes that never outlive their parent, and waiting for conditions with a deadline."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)
STOP_DEADLINE_S = 10.0
POLL_S = 0.05


class StartFailed(RuntimeError):
    """A part did not come up; the text says which and what it printed."""


def die_with_parent() -> None:
    """In the child, before exec: SIGTERM when the parent ends, so that a killed demo leaves nothing behind."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


class Child:
    """One process of the stack; `log` receives its standard error, `stdout` its standard output."""

    def __init__(self, name: str, argv: Sequence[str], env: Mapping[str, str], log: Path) -> None:
        self.name, self.log, self.stdout = name, log, log.with_suffix(".out")
        self._sinks = [self.stdout.open("wb"), log.open("ab")]
        self.process = subprocess.Popen(
            list(argv),
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=self._sinks[0],
            stderr=self._sinks[1],
            preexec_fn=die_with_parent,
        )

    @property
    def pid(self) -> int:
        return self.process.pid

    def output(self, limit: int = 4000) -> str:
        """The last `limit` characters that it printed."""
        return self.log.read_text(errors="replace")[-limit:] if self.log.exists() else ""

    def check(self) -> None:
        """Raises StartFailed when the process has ended."""
        if self.process.poll() is not None:
            raise StartFailed(f"{self.name} ended with status {self.process.returncode}:\n{self.output()}")

    def kill(self) -> None:
        """SIGKILL, as a crash would."""
        self.process.kill()
        self.process.wait()
        self._close()

    def stop(self) -> None:
        """SIGTERM, and SIGKILL when it does not end within the deadline."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(STOP_DEADLINE_S)
            except subprocess.TimeoutExpired:
                self.kill()
        self._close()

    def _close(self) -> None:
        for sink in self._sinks:
            sink.close()

    def __enter__(self) -> Child:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()


def wait_until(condition: Callable[[], bool], deadline_s: float, what: str, *alive: Child) -> None:
    """Polls `condition` until it is true; raises StartFailed at the deadline or when a process of `alive` ends."""
    end = time.monotonic() + deadline_s
    while not condition():
        for child in alive:
            child.check()
        if time.monotonic() > end:
            tails = "\n".join(f"--- {child.name}\n{child.output()}" for child in alive)
            raise StartFailed(f"{what} did not happen within {deadline_s:.0f} s\n{tails}")
        time.sleep(POLL_S)


def child_environment(**extra: str) -> dict[str, str]:
    """This process's environment for a child: without the settings that would make every Python start slow."""
    env = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    return env | extra
