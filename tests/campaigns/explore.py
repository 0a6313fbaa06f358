"""The exhaustive search of `tests/core/test_explore.py`, to closure.

`python -m tests.campaigns.explore [--depth N]` prints how many situations there are, how many steps were taken, and
fails at the first broken promise or at any dead end.
"""

from __future__ import annotations

import argparse
import sys
import time

from tests.core.test_explore import explore


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--depth", type=int, default=None)
    options = parser.parse_args(arguments)
    started = time.process_time()
    found = explore(options.depth)
    print(
        f"{found.situations} situations, {found.steps} steps with crashes, depth {found.depth}, {found.open} open, "
        f"{found.dead_ends} dead ends; {time.process_time() - started:.0f} s of CPU"
    )
    return 1 if found.dead_ends else 0


if __name__ == "__main__":
    sys.exit(main())
