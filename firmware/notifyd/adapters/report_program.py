"""Runs the report program: by its socket where the service manager starts it, as a child process elsewhere.

On the device the program runs in a sandbox of its own, since it may look at more of the system than notifyd may; there
`report.sock` starts it. On a workstation there is no such socket and it is a child. Both speak one line of JSON in and
lines of JSON out (`notifyd.report.__main__.serve`).
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

DEADLINE_S = 120.0
MAX_LINE = 8 * 1024 * 1024  # a preview with its images
SOCKET = "report.sock"


class ReportProgramFailed(Exception):
    """The program said that it failed, or it could not be run; the text says why."""


class ReportProgram:
    """run_directory: where `report.sock` may be."""

    def __init__(self, run_directory: Path) -> None:
        self._socket = run_directory / SOCKET

    async def run(self, request: Mapping[str, Any], progress: Callable[[str], None]) -> Mapping[str, Any]:
        """Does one request and returns its result; `progress` is called with each step. Raises ReportProgramFailed."""
        try:
            async with asyncio.timeout(DEADLINE_S):
                if self._socket.exists():
                    return await self._over_socket(request, progress)
                return await self._as_child(request, progress)
        except TimeoutError:
            raise ReportProgramFailed(f"the report program did not finish within {DEADLINE_S:.0f} s") from None
        except OSError as error:
            raise ReportProgramFailed(f"the report program cannot be run: {error}") from error

    async def _over_socket(self, request: Mapping[str, Any], progress: Callable[[str], None]) -> Mapping[str, Any]:
        reader, writer = await asyncio.open_unix_connection(str(self._socket), limit=MAX_LINE)
        try:
            return await _converse(reader, writer, request, progress)
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def _as_child(self, request: Mapping[str, Any], progress: Callable[[str], None]) -> Mapping[str, Any]:
        pipe = asyncio.subprocess.PIPE
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "notifyd.report", "--serve", stdin=pipe, stdout=pipe, limit=MAX_LINE
        )
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            return await _converse(child.stdout, child.stdin, request, progress)
        finally:
            with suppress(ProcessLookupError):
                child.kill()
            await child.wait()


async def _converse(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    request: Mapping[str, Any],
    progress: Callable[[str], None],
) -> Mapping[str, Any]:
    writer.write(json.dumps(request).encode() + b"\n")
    await writer.drain()
    while line := await reader.readline():
        try:
            answer = json.loads(line)
        except ValueError:
            raise ReportProgramFailed("the report program answered with something that is not JSON") from None
        if "step" in answer:
            progress(str(answer["step"]))
        elif "result" in answer:
            result: Mapping[str, Any] = answer["result"]
            return result
        else:
            raise ReportProgramFailed(str(answer.get("error", "it gave no reason")))
    raise ReportProgramFailed("the report program ended without an answer")
