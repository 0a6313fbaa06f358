"""From the board's ports and zones: networkd files, nftables rules, the udev rule of the page, and QEMU's cards.

Everything here is a pure function from the board to text, so that the files, the firewall and the emulated cards cannot
disagree, and so that a test can compare them without an image.
"""

from __future__ import annotations

from qemu.image.board import Board, Interface, Port, Zone

_HEAD = "# Made from board.toml by qemu/image/network.py.\n"


def generated_files(board: Board) -> dict[str, str]:
    """Every generated file of the root image: path below the root to its content."""
    files: dict[str, str] = {}
    for port in board.ports:
        files[f"etc/systemd/network/10-{port.interface}.link"] = _link(board, port)
        if port.member is not None:
            files[f"etc/systemd/network/20-{port.interface}.network"] = _member(port)
    for interface in board.interfaces:
        if interface.bridge:
            files[f"etc/systemd/network/15-{interface.name}.netdev"] = _netdev(interface)
        files[f"etc/systemd/network/30-{interface.name}.network"] = _network(board, interface)
        if _serves(_zone_of(board, interface.name), "https"):
            files[f"etc/systemd/system/page@{interface.name}.socket.d/device.conf"] = page_socket(interface.name)
    files["etc/nftables.conf"] = nftables(board)
    files["etc/udev/rules.d/70-lan-page.rules"] = udev_rules(board)
    files["etc/sysctl.d/60-wan.conf"] = _sysctl(board)
    files["etc/notifyd/interfaces.env"] = lan_environment(board)
    files["etc/hostname"] = board.hostname + "\n"
    files["etc/hosts"] = "127.0.0.1 localhost\n::1 localhost\n" + "".join(
        f"{i.address.ip} {board.hostname}\n" for i in board.interfaces if i.address and board.zone("lan").holds(i.name)
    )
    return files


def _link(board: Board, port: Port) -> str:
    return (
        f"{_HEAD}# {port.label}, {port.speed_mbps} Mbit/s\n"
        f"[Match]\nMACAddress={board.mac(port.interface)}\nType=ether\n\n[Link]\nName={port.interface}\n"
    )


def _member(port: Port) -> str:
    return f"{_HEAD}[Match]\nName={port.interface}\n\n[Network]\nBridge={port.member}\n"


def _netdev(interface: Interface) -> str:
    return f"{_HEAD}[NetDev]\nName={interface.name}\nKind=bridge\n\n[Bridge]\nSTP=no\nForwardDelaySec=0\n"


def _network(board: Board, interface: Interface) -> str:
    lines = ["[Match]", f"Name={interface.name}", "", "[Network]"]
    lines.append(f"DHCP={'yes' if interface.dhcp else 'no'}")
    lines.append("LLMNR=no\nMulticastDNS=no")
    if interface.address:
        # A bridge without a carrier must still have its address: the page's certificate and redirect URIs name it.
        lines.append(f"Address={interface.address}\nConfigureWithoutCarrier=yes\nIPv6AcceptRA=no")
        lines.append("IPv6SendRA=no\nLinkLocalAddressing=ipv6")
    if interface.dhcp_server:
        lines.append("DHCPServer=yes\n\n[DHCPServer]\nPoolOffset=33\nPoolSize=200\nEmitDNS=no\nPersistLeases=no")
    if interface.dhcp and interface.route_metric is not None:
        lines.append(f"\n[DHCPv4]\nRouteMetric={interface.route_metric}\nUseHostname=no")
        lines.append(f"\n[IPv6AcceptRA]\nRouteMetric={interface.route_metric}")
    lines.append("\n[Link]\nRequiredForOnline=no")
    return _HEAD + "\n".join(lines) + "\n"


def _sysctl(board: Board) -> str:
    """The WAN answers no ARP for another interface's address; `conf` names are those of the ports."""
    lines = [_HEAD.rstrip()]
    for port in board.ports:
        if port.zone == "wan":
            for setting in ("arp_ignore = 1", "arp_announce = 2", "accept_redirects = 0"):
                lines.append(f"-net.ipv4.conf.{port.interface}.{setting}")
    return "\n".join(lines) + "\n"


def udev_rules(board: Board) -> str:
    """Every interface of a zone that serves https gets a listener of its own, bound to the device, when it appears."""
    patterns = [pattern for zone in board.zones if _serves(zone, "https") for pattern in zone.match]
    rules = [
        f'SUBSYSTEM=="net", ACTION=="add", KERNEL=="{pattern}", TAG+="systemd", '
        'ENV{SYSTEMD_WANTS}+="lan-interface@$name.service"'
        for pattern in patterns
    ]
    return _HEAD + "\n".join(rules) + "\n"


def page_socket(interface: str) -> str:
    """The drop-in that gives the page's socket its port on one interface; lan-interface writes the same at run time."""
    return f"{_HEAD}[Socket]\nListenStream=[::]:443\nBindToDevice={interface}\n"


def _zone_of(board: Board, interface: str) -> Zone:
    return next(zone for zone in board.zones if zone.holds(interface))


def _serves(zone: Zone, service: str) -> bool:
    return service in [offered.name for offered in zone.services]


def lan_environment(board: Board) -> str:
    """The LAN's patterns, for the services that follow its addresses."""
    patterns = board.zone("lan").match
    arguments = " ".join(f"--lan-interface={pattern}" for pattern in patterns)
    return f"{_HEAD}LAN_INTERFACES={' '.join(patterns)}\nLAN_ARGUMENTS={arguments}\n"


def nftables(board: Board) -> str:
    """Input is dropped unless a zone's service says otherwise; an address answers only on its own interface."""
    accepts = "\n".join(rule for zone in board.zones for rule in _zone_rules(zone))
    forwards = "\n".join(
        f"    {_names('iifname', zone)} {_names('oifname', board.zone(target))} accept"
        for zone in board.zones
        for target in zone.forward_to
    )
    wan = _names("oifname", board.zone("wan"))
    return f"""#!/usr/sbin/nft -f
{_HEAD}flush ruleset

table inet filter {{
  # Strong host model: Linux would take a packet for the LAN address on the WAN interface too.
  chain own_interface_only {{
    type filter hook prerouting priority raw; policy accept;
    iifname "lo" accept
    ip6 daddr ff00::/8 accept
    ip daddr 255.255.255.255 accept
    udp sport 67 udp dport 68 accept
    fib daddr type local fib daddr . iif type != local counter drop
    fib saddr . iif oif missing fib daddr type local counter drop
  }}

  chain input {{
    type filter hook input priority filter; policy drop;
    iifname "lo" accept
    ct state established,related accept
    ct state invalid drop
    icmpv6 type {{ nd-router-advert, nd-neighbor-solicit, nd-neighbor-advert }} ip6 hoplimit 255 accept
    {_names("iifname", board.zone("wan"))} udp sport 67 udp dport 68 accept
    {_names("iifname", board.zone("wan"))} ip6 saddr fe80::/10 udp sport 547 udp dport 546 accept
{accepts}
  }}

  chain forward {{
    type filter hook forward priority filter; policy drop;
    ct state established,related accept
{forwards}
  }}
}}

table ip nat {{
  chain postrouting {{
    type nat hook postrouting priority srcnat; policy accept;
    {wan} masquerade
  }}
}}
"""


def _zone_rules(zone: Zone) -> list[str]:
    here = f"    {_names('iifname', zone)}"
    rules = []
    for service in zone.services:
        if service.tcp is not None:
            rules.append(f'{here} tcp dport {service.tcp} accept comment "{service.name}"')
        if service.udp is not None:
            rules.append(f'{here} udp dport {service.udp} accept comment "{service.name}"')
        if service.icmp:
            rules.append(f"{here} icmp type echo-request accept")
            rules.append(f"{here} icmpv6 type echo-request accept")
    return rules


def _names(key: str, zone: Zone) -> str:
    patterns = ", ".join(f'"{pattern}"' for pattern in zone.match)
    return f"{key} {{ {patterns} }}"


def qemu_cards(board: Board) -> list[tuple[str, str]]:
    """The (interface, hardware address) of each emulated card; which network it is on is the caller's."""
    return [(name, board.mac(name)) for name in board.emulation.ports]


def network_of(board: Board, interface: str) -> str:
    """The zone whose wire a port is plugged into."""
    port = board.port(interface)
    return next(zone.name for zone in board.zones if zone.holds(port.member or port.interface))
