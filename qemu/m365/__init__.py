"""Simulated Microsoft 365 for demo and tests: identity provider, mail submission server, control API.

`Simulator` runs it inside a test's event loop, `start_in_thread` beside a synchronous test, and
`python -m qemu.m365` as a program of its own. README.md lists orders, pages and element ids.
"""

from qemu.m365.simulator import Endpoints, Simulator, ThreadedSimulator, start_in_thread

__all__ = ["Endpoints", "Simulator", "ThreadedSimulator", "start_in_thread"]
