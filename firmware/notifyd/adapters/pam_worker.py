"""One login asked of the real libpam, in a process of its own: one JSON line in, one JSON line out, then the end.

In: `{"service", "service_dir", "user", "password", "remote"}`. Out: `{"ok": bool, "messages": [what PAM said]}`.
The password comes on standard input only. libpam may load modules that keep the password in memory or that hang:
both end with this process.
"""

from __future__ import annotations

import ctypes
import json
import resource
import sys
from collections.abc import Callable
from typing import Any

PAM_SUCCESS = 0
PAM_BUF_ERR = 5
PAM_CONV_ERR = 19
PAM_RHOST = 4
PAM_TTY = 3
PAM_PROMPT_ECHO_OFF = 1
PAM_DISALLOW_NULL_AUTHTOK = 1
PR_SET_DUMPABLE = 4


class Message(ctypes.Structure):
    """struct pam_message of <security/_pam_types.h>."""

    _fields_ = (("style", ctypes.c_int), ("text", ctypes.c_char_p))


class Response(ctypes.Structure):
    """struct pam_response; libpam frees `text`, so that it must come from malloc."""

    _fields_ = (("text", ctypes.c_void_p), ("code", ctypes.c_int))


Converse = ctypes.CFUNCTYPE(
    ctypes.c_int,
    ctypes.c_int,
    ctypes.POINTER(ctypes.POINTER(Message)),
    ctypes.POINTER(ctypes.POINTER(Response)),
    ctypes.c_void_p,
)


class Conversation(ctypes.Structure):
    """struct pam_conv."""

    _fields_ = (("converse", Converse), ("data", ctypes.c_void_p))


def conversation(libc: ctypes.CDLL, password: bytes, heard: list[str]) -> Callable[..., int]:
    """Answers every hidden prompt with the password, notes everything else in `heard`."""

    def converse(count: int, messages: Any, responses: Any, data: Any) -> int:
        replies = libc.calloc(count, ctypes.sizeof(Response))
        if not replies:
            return PAM_BUF_ERR
        array = ctypes.cast(replies, ctypes.POINTER(Response))
        responses[0] = array
        for index in range(count):
            message = messages[index].contents
            if message.style == PAM_PROMPT_ECHO_OFF:
                array[index].text = libc.strdup(password)
            else:
                heard.append((message.text or b"").decode("utf-8", "replace"))
        return PAM_SUCCESS

    return converse


def authenticate(service: str, service_dir: str, user: str, password: bytes, remote: str) -> tuple[bool, list[str]]:
    """Whether PAM lets the user in, and what its modules said. Raises OSError when libpam cannot be used."""
    libpam, libc = ctypes.CDLL("libpam.so.0"), ctypes.CDLL(None)
    libc.calloc.restype = libc.strdup.restype = ctypes.c_void_p
    heard: list[str] = []
    talk = Conversation(Converse(conversation(libc, password, heard)), None)
    handle = ctypes.c_void_p()
    started = libpam.pam_start_confdir(
        service.encode(), user.encode(), ctypes.byref(talk), service_dir.encode(), ctypes.byref(handle)
    )
    if started != PAM_SUCCESS:
        raise OSError(f"pam_start failed with {started}")
    libpam.pam_set_item(handle, PAM_RHOST, remote.encode())
    libpam.pam_set_item(handle, PAM_TTY, b"https")
    status = libpam.pam_authenticate(handle, PAM_DISALLOW_NULL_AUTHTOK)
    if status == PAM_SUCCESS:
        status = libpam.pam_acct_mgmt(handle, PAM_DISALLOW_NULL_AUTHTOK)
    libpam.pam_end(handle, status)
    return status == PAM_SUCCESS, heard


def main() -> int:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    request = json.loads(sys.stdin.readline())
    password = request["password"].encode()
    ok, heard = authenticate(request["service"], request["service_dir"], request["user"], password, request["remote"])
    json.dump({"ok": ok, "messages": heard}, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
