"""`make bench`: every figure of one run in build/bench.json (one flat object) and as a table.

Ratios are taken within the run, against something measured at the same time: absolute times of a shared machine
mean little.
"""

from __future__ import annotations

import json
import sys
import warnings

import urllib3

from qemu.workstation.demo import running_demo
from qemu.workstation.demo_once import free_port
from qemu.workstation.gateway import REPOSITORY
from tests.bench import accept_rate, cgi, event_log, idle, signin

RESULT = REPOSITORY / "build" / "bench.json"
BOUNDS = {"idle_pss_ratio": 2.0, "cgi_wall_ratio": 1.8}
"""What issue and design promise; the program fails when a figure is over."""


def main() -> int:
    warnings.simplefilter("ignore", urllib3.exceptions.InsecureRequestWarning)  # the gateway's own certificate
    results: dict[str, float] = {}
    with running_demo(free_port()) as demo:
        for name, measure in (
            ("sign-in", lambda: signin.measure(demo)),
            ("idle (a minute and a half)", lambda: idle.measure(demo.gateway.notifyd.pid)),
            ("CGI", lambda: cgi.measure(demo.gateway.run)),
            ("a day of events", event_log.measure),
            ("durable accepts", lambda: accept_rate.measure(demo.gateway.run)),
        ):
            print(f"measuring {name} …", file=sys.stderr, flush=True)
            results |= measure()
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(results, indent=2) + "\n")
    over = [name for name, bound in BOUNDS.items() if results[name] > bound]
    for name, value in results.items():
        bound = f"   (bound {BOUNDS[name]})" if name in BOUNDS else ""
        print(f"{name:34} {value:>12}{bound}{'   OVER' if name in over else ''}")
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main())
