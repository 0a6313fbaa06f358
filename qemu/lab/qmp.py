"""QMP, QEMU's own control protocol (docs/interop/qmp-spec): one JSON object a line over a Unix socket."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

COMMAND_DEADLINE_S = 60.0


class QmpError(RuntimeError):
    """QEMU refused a command, or went away; the text is QEMU's."""


class Qmp:
    """One control connection; not for two threads at once."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(COMMAND_DEADLINE_S)
        self._socket.connect(str(path))
        self._file = self._socket.makefile("rwb")
        self._read()  # the greeting
        self.command("qmp_capabilities")

    def command(self, name: str, /, **arguments: Any) -> Any:
        """The command's return value; raises QmpError."""
        self._file.write(json.dumps({"execute": name, "arguments": arguments}).encode() + b"\n")
        self._file.flush()
        while True:
            message = self._read()
            if "return" in message:
                return message["return"]
            if "error" in message:
                raise QmpError(f"{name}: {message['error']['desc']}")

    def monitor(self, line: str) -> str:
        """A command of the human monitor, for what QMP has no word for; raises QmpError when it complains."""
        answer = str(self.command("human-monitor-command", **{"command-line": line}))
        if answer.strip().lower().startswith(("error", "could not", "invalid", "unknown")):
            raise QmpError(f"{line}: {answer.strip()}")
        return answer

    def close(self) -> None:
        """Ends the connection; QEMU runs on."""
        self._file.close()
        self._socket.close()

    def _read(self) -> Mapping[str, Any]:
        line = self._file.readline()
        if not line:
            raise QmpError("QEMU closed its control socket")
        message: Mapping[str, Any] = json.loads(line)
        return message
