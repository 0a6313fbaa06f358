"""Runs a CGI program for one SCGI request on standard input, in this interpreter: a second start would cost as much
again.

lighttpd speaks SCGI to msoauth2.socket, systemd starts this as the CGI's own user. SCGI is a netstring of NUL-separated
names and values, then the body; the rest is CGI. Only built-in modules, as in the CGI itself.
"""

import posix
import sys

HEAD_LIMIT = 64 * 1024


def read_exactly(count):
    """`count` bytes of standard input; raises ValueError when they do not come."""
    pieces = []
    while count:
        piece = posix.read(0, count)
        if not piece:
            raise ValueError("the request is incomplete")
        pieces.append(piece)
        count -= len(piece)
    return b"".join(pieces)


def read_head():
    """The request's names and values; the body stays unread."""
    digits = b""
    while not digits.endswith(b":"):
        digits += read_exactly(1)
        if len(digits) > 6:
            raise ValueError("the request has no length")
    length = int(digits[:-1])
    if length > HEAD_LIMIT:
        raise ValueError("the request is too long")
    words = read_exactly(length + 1)[:-2].split(b"\0")
    return dict(zip(words[::2], words[1::2], strict=True))


def main():
    program = sys.argv[1]
    environment = read_head()
    run = posix.environ.get(b"NOTIFYD_RUN", b"/run/notifyd")
    posix.environ.clear()  # the request must not see or change what this process was started with
    posix.environ.update(environment)
    posix.environ[b"NOTIFYD_RUN"] = run
    descriptor = posix.open(program, posix.O_RDONLY)
    source = posix.read(descriptor, posix.fstat(descriptor).st_size)
    posix.close(descriptor)
    exec(compile(source, program, "exec"), {"__name__": "__main__"})


if __name__ == "__main__":
    main()
