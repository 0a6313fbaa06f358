"""`python -m notifyd.adapters.entra_worker PARENT`: one request line on stdin, one answer line on stdout, then the end.

A request is `{"op": …, "deadline_s": …, "key": …, …}`, an answer `{"result": …}` or `{"failure": …}`. Secrets travel
in these lines only. Nothing is ever logged: the libraries' own records could quote codes and pages.
"""

from __future__ import annotations

import ctypes
import dataclasses
import json
import logging
import os
import resource
import signal
import sys
import warnings
from pathlib import Path
from typing import IO, Any

from notifyd.core.events import Failure, FailureKind

MAX_REQUEST = 512 * 1024
PR_SET_PDEATHSIG, PR_SET_DUMPABLE = 1, 4


def main(parent: int) -> int:
    """Prepare the process, import the libraries, then wait for the request. Returns the exit status."""
    _confine(parent)
    answers = _take_stdout()
    try:
        from notifyd.adapters.entra_worker import faults, operations
    except Exception as error:
        _answer(answers, {"failure": _plain(_crash("worker_import", error))})
        return 1
    line = sys.stdin.buffer.readline(MAX_REQUEST)
    if not line.endswith(b"\n"):
        return 1
    try:
        answer = {"result": operations.perform(json.loads(line))}
    except faults.OperationFailed as failed:
        answer = {"failure": _plain(failed.failure)}
    except Exception as error:
        answer = {"failure": _plain(_crash("worker_crash", error))}
    _answer(answers, answer)
    return 0


def _confine(parent: int) -> None:
    """Die with the parent, leave no core, let no other process of this user look inside, log nothing."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        raise SystemExit(1)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    os.umask(0o077)
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")


def _take_stdout() -> IO[bytes]:
    """Keep the answer channel for the answer: what a library prints goes nowhere."""
    channel = os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)
    return channel


def _answer(channel: IO[bytes], answer: dict[str, Any]) -> None:
    channel.write(json.dumps(answer).encode() + b"\n")
    channel.close()


def _plain(failure: Failure) -> dict[str, Any]:
    return dataclasses.asdict(failure)


def _crash(where: str, error: Exception) -> Failure:
    """Our own fault: the kind and place of the exception, never its text, which could hold a secret."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}" if trace else "?"
    return Failure(kind=FailureKind.WORKER, error=where, description=f"{type(error).__name__} at {place}")


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
