"""What the build tells a person: one line a step, with its time, and the whole output of a tool only when it fails."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path


class BuildFailed(RuntimeError):
    """A step of the build failed; the text says which and what the tool printed."""


@contextmanager
def step(title: str) -> Iterator[None]:
    """Prints the title, runs the block, prints how long it took."""
    print(f"  {title} …", end="", flush=True)
    start = time.monotonic()
    try:
        yield
    except BaseException:
        print(" failed", flush=True)
        raise
    print(f" {time.monotonic() - start:.1f} s", flush=True)


def run(
    argv: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    text: str | None = None,
) -> str:
    """The standard output of a tool; raises BuildFailed with the end of what it printed when it does not end with 0."""
    try:
        done = subprocess.run(
            [str(word) for word in argv], cwd=cwd, env=env, input=text, capture_output=True, text=True, check=False
        )
    except FileNotFoundError as error:
        raise BuildFailed(f"{argv[0]} is not installed (make image-setup installs what the build needs)") from error
    if done.returncode != 0:
        raise BuildFailed(f"{argv[0]} ended with {done.returncode}:\n{(done.stdout + done.stderr)[-3000:]}")
    return done.stdout
