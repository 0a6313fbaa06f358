"""The web server's configuration on the board, made from the one in firmware/lighttpd.

The page, its limits and headers are the same as everywhere. Different on the board: the listening socket comes from
systemd, bound to a LAN device; the CGI runs as its own user behind a socket (SCGI) instead of as a child; each
interface has its own runtime folder.
"""

from __future__ import annotations

import re
from pathlib import Path

from qemu.image.board import REPOSITORY
from qemu.image.progress import BuildFailed

TEMPLATE = REPOSITORY / "firmware" / "lighttpd" / "lighttpd.conf.in"
APPLICATION = "/usr/lib/notifyd"
CGI_SOCKET = "/run/msoauth2.sock"

_VALUES = {
    "LISTEN": 'server.bind = "[::]"\nserver.port = 443\nserver.systemd-socket-activation = "enable"',
    "ACCESS_LOG": 'accesslog.use-syslog = "enable"\nserver.errorlog-use-syslog = "enable"',
    "PEM": "/data/page/tls/device.pem",
    "WWW": f"{APPLICATION}/www",
    "CGI": f"{APPLICATION}/cgi-bin/msoauth2.cgi",
}
_CHANGES = (
    ('"mod_cgi"', '"mod_scgi"'),
    ('"@RUN@/lighttpd.pid"', 'env.PAGE_RUN + "/lighttpd.pid"'),
    ('"@RUN@/upload"', "env.PAGE_RUN"),
    ('"@RUN@/admin.sock"', '"/run/notifyd/admin.sock"'),
)
_CGI_LINES = re.compile(r"^ +alias\.url = .*\n(?: +cgi\..*\n)+(?: +setenv\.set-environment .*\n)?", re.MULTILINE)
_SCGI = f"""    scgi.server = ( "" => ((
        "socket" => "{CGI_SOCKET}", "check-local" => "disable", "disable-time" => 0,
        "read-timeout" => 120, "write-timeout" => 15,
    )))
"""

# DNS rebinding leads a browser here under a name that is not ours: served are addresses, the device's name, and it
# below the suffixes that nobody can register (RFC 6762, 8375; .internal).
_HOSTS = """
$HTTP["host"] !~ "^([0-9.]+|\\[[0-9a-fA-F:.]+\\]|(?i:{name})(\\.(local|home\\.arpa|internal))?)(:[0-9]+)?$" {{
    url.access-deny = ( "" )
}}
"""


def page_configuration(hostname: str, template: Path = TEMPLATE) -> str:
    """The text of lighttpd.conf for a device of that name.

    Raises BuildFailed when the template no longer has what is changed here.
    """
    text = template.read_text(encoding="utf-8")
    for old, new in _CHANGES:
        if text.count(old) != 1:
            raise BuildFailed(f"{template.name}: expected {old} once")
        text = text.replace(old, new)
    text, blocks = _CGI_LINES.subn(_SCGI, text)
    if blocks != 1:
        raise BuildFailed(f"{template.name}: the block that runs the CGI is not as expected")
    text += _HOSTS.format(name=re.escape(hostname))
    for name, value in _VALUES.items():
        text = text.replace(f"@{name}@", value)
    if left := re.search(r"@[A-Z_]+@", text):
        raise BuildFailed(f"{template.name}: {left[0]} has no value on the board")
    return text
