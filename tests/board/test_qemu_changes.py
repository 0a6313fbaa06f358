"""The network changes under a running gateway: LAN addresses, VLANs, the WAN, and notifyd's own health."""

from __future__ import annotations

import ipaddress
import ssl
import time

import pytest
from cryptography import x509

from qemu.image.board import Board
from qemu.lab.wire import RawHost
from tests.board.conftest import Journal, Lab

pytestmark = pytest.mark.qemu

FOLLOW_BOUND_S = 2.0
NEW_ADDRESS = "10.55.0.1"
VLAN, VLAN_ADDRESS, VLAN_HOST = 20, "10.20.0.1", "10.20.0.77"


def redirect_hosts(lab: Lab) -> list[str]:
    return [uri.split("/")[2] for uri in lab.unit.api("GET", "/api/v1/redirect-uris").document["redirect_uris"]]


def certificate_names(lab: Lab) -> list[str]:
    """The addresses in the certificate that the web server presents on the LAN."""
    pem = ssl.get_server_certificate(("127.0.0.1", lab.unit.lan_port), timeout=30)
    names = x509.load_pem_x509_certificate(pem.encode()).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return [str(address) for address in names.value.get_values_for_type(x509.IPAddress)]


def test_a_new_lan_address_is_followed(ready: Lab) -> None:
    """Redirect URIs and the certificate name it; it is forgotten when it goes."""
    start = time.monotonic()
    ready.unit.agent.check("ip", "address", "add", f"{NEW_ADDRESS}/24", "dev", "lan1")
    ready.wait(lambda: redirect_hosts(ready), lambda hosts: NEW_ADDRESS in hosts, "redirect URIs")
    print(f"redirect URIs after {time.monotonic() - start:.1f} s, asked from outside")
    ready.wait(lambda: certificate_names(ready), lambda names: NEW_ADDRESS in names, "the certificate's names")
    print(f"certificate after {time.monotonic() - start:.1f} s")
    ready.unit.agent.check("ip", "address", "del", f"{NEW_ADDRESS}/24", "dev", "lan1")
    ready.wait(lambda: redirect_hosts(ready), lambda hosts: NEW_ADDRESS not in hosts, "redirect URIs without it")


def test_a_sign_in_in_flight_survives_an_address_change(ready: Lab) -> None:
    """Get New Token, then the LAN changes, then Microsoft's redirect arrives at the old address: it is taken."""
    ready.microsoft.control("POST", "/reset")
    person = ready.administrator()
    person.log_in()
    person.apply()
    begun = person.call("POST", "/api/v1/token/authorize", {"redirect_uri": person.redirect_uri})
    ready.unit.agent.check("ip", "address", "add", f"{NEW_ADDRESS}/24", "dev", "lan1")
    ready.wait(lambda: redirect_hosts(ready), lambda hosts: NEW_ADDRESS in hosts, "redirect URIs")
    visit = person.browser.sign_in(begun.json()["authorize_url"])
    page = person.http.post(person.redirect_uri, data=visit.params, timeout=120)
    assert page.status_code == 200, page.text
    # Asked inside: the certificate is another one by now, and this person has imported the old one.
    assert ready.unit.status()["state"] == "Valid"


def test_a_vlan_of_the_lan_gets_a_listener_and_loses_it(ready: Lab, board: Board) -> None:
    """The page answers on lan20 as soon as it is made, its address is a redirect URI, and all goes with it."""
    agent = ready.unit.agent
    start = time.monotonic()
    agent.shell(
        f"ip link add link lan1 name lan{VLAN} type vlan id {VLAN}; ip address add {VLAN_ADDRESS}/24 dev lan{VLAN}; "
        f"ip link set lan{VLAN} up"
    )
    mac = agent.check("cat", f"/sys/class/net/lan{VLAN}/address").strip()
    host, unit = ipaddress.IPv4Address(VLAN_HOST), ipaddress.IPv4Address(VLAN_ADDRESS)
    with RawHost(ready.unit.machine, "lan", mac, [host], vlan=VLAN) as person:
        assert person.answers(host, unit, 443, 60)
        print(f"the page answers on the VLAN after {time.monotonic() - start:.1f} s")
        ready.wait(lambda: redirect_hosts(ready), lambda hosts: VLAN_ADDRESS in hosts, "redirect URIs")
        agent.check("ip", "link", "del", f"lan{VLAN}")
        ready.wait(lambda: redirect_hosts(ready), lambda hosts: VLAN_ADDRESS not in hosts, "redirect URIs without it")
        ready.wait(
            lambda: ready.unit.show(f"page@lan{VLAN}.socket", "ActiveState")["ActiveState"],
            lambda state: state != "active",
            "the listener's end",
        )
    assert ready.unit.lan_get("/")[0] == 200


def test_mail_waits_for_the_wan_and_flows_when_it_is_back(valid: Lab) -> None:
    """The cable is pulled, a mail is accepted and held, the cable is plugged in: it arrives once."""
    unit = valid.unit
    before = len(valid.microsoft.mail())
    unit.machine.link("ge1", up=False)
    unit.agent.check("ip", "link", "set", "ge1", "down")
    accepted = unit.api(
        "POST", "/api/v1/mail", {"to": "ops@contoso.example", "subject": "waits", "text": "for the WAN"}
    )
    assert accepted.status == 202, accepted
    path = f"/api/v1/mail/{accepted.document['id']}"
    assert unit.api("GET", path).document["state"] != "sent"
    unit.machine.link("ge1", up=True)
    unit.agent.check("ip", "link", "set", "ge1", "up")
    valid.wait(lambda: unit.api("GET", path).document["state"], lambda state: state == "sent", "the mail's end", 240)
    assert len(valid.microsoft.mail()) == before + 1


def test_a_frozen_loop_is_started_again(valid: Lab, journal: Journal) -> None:
    """The watchdog is fed from the event loop: a notifyd that stands still is killed and restarted, grant intact."""
    journal.allow(r"notifyd\.service: Watchdog timeout", r"notifyd\.service: Failed with result 'watchdog'")
    unit = valid.unit
    pid = unit.show("notifyd.service", "MainPID")["MainPID"]
    unit.agent.check("kill", "-STOP", pid)
    valid.wait(
        lambda: unit.show("notifyd.service", "MainPID", "ActiveState", "NRestarts"),
        lambda seen: seen["MainPID"] not in (pid, "0") and seen["ActiveState"] == "active",
        "another notifyd",
        240,
    )
    assert unit.show("notifyd.service", "NRestarts")["NRestarts"] == "1"
    status = valid.wait(unit.status, lambda status: status["state"] == "Valid", "the grant", 60)
    assert status["account"]


@pytest.mark.parametrize("year", ["1970-06-01", "2099-01-01"])
def test_a_jumping_clock_costs_no_grant(valid: Lab, journal: Journal, year: str) -> None:
    """The wall clock jumps by decades and back: no mail expires, the grant stays, service is normal at the end."""
    journal.allow(r"lighttpd: .*inactive/expired X509 certificate")
    unit = valid.unit
    unit.agent.check("date", "-u", "-s", f"{year} 00:00:00")
    accepted = unit.api("POST", "/api/v1/mail", {"to": "ops@contoso.example", "subject": year, "text": "a wrong clock"})
    assert accepted.status == 202, accepted
    time.sleep(3)  # time under the wrong clock is the point; there is no condition to wait for
    unit.agent.set_clock()
    path = f"/api/v1/mail/{accepted.document['id']}"
    valid.wait(lambda: unit.api("GET", path).document["state"], lambda state: state == "sent", "the mail's end", 120)
    status = valid.wait(unit.status, lambda status: status["can_send"], "a normal service", 120)
    assert status["state"] == "Valid"
