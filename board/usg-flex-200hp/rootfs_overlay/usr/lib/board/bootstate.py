#!/usr/bin/python3 -I
"""The boot loader's slot state, seen from the running system: `bootstate.py status|confirm|prefer SLOT|install BUNDLE`.

Two sectors of the partition `bootstate`, each in the form of U-Boot's `env export -c` (CRC-32, then NAME=value strings
ended by NUL). One is written and synced before the other, so that a power cut leaves one that is whole; boot.cmd reads
them in the same order.
"""

import json
import os
import socket
import sys
import time
import zlib
from pathlib import Path

SECTOR = 512
COPIES = (0, 8 * SECTOR)
TRIES = 3
NO_TRIAL = "none"
HEALTH_DEADLINE_S = 90.0
POLL_S = 0.5
BLOCK = 1 << 20


class Refused(RuntimeError):
    """Nothing was changed; the text says why."""


def partition(name):
    """The device of the partition with that name, without udev's links (they may not be there yet)."""
    for uevent in sorted(Path("/sys/class/block").glob("*/uevent")):
        fields = dict(line.split("=", 1) for line in uevent.read_text().splitlines())
        if fields.get("PARTNAME") == name:
            return Path("/dev") / fields["DEVNAME"]
    raise Refused(f"there is no partition {name}")


def decode(sector):
    """The variables of one copy, or None when its checksum is wrong."""
    if zlib.crc32(sector[4:]) != int.from_bytes(sector[:4], "little"):
        return None
    pairs = sector[4:].split(b"\0\0")[0].split(b"\0")
    return dict(pair.decode("ascii").split("=", 1) for pair in pairs if pair)


def encode(state):
    """One copy as the boot loader reads it."""
    text = "".join(f"{name}={value}\0" for name, value in sorted(state.items())) + "\0"
    data = text.encode("ascii").ljust(SECTOR - 4, b"\0")
    return zlib.crc32(data).to_bytes(4, "little") + data


def read_state(device):
    """The first copy that is whole."""
    with device.open("rb") as disk:
        for offset in COPIES:
            disk.seek(offset)
            state = decode(disk.read(SECTOR))
            if state:
                return state
    return {"BOOT_ORDER": "A B", "BOOT_A_LEFT": str(TRIES), "BOOT_B_LEFT": "0", "BOOT_TRIAL": NO_TRIAL}


def write_state(device, state):
    """Both copies, one after the other, each on the disk before the next."""
    descriptor = os.open(device, os.O_RDWR | os.O_DSYNC | os.O_CLOEXEC)
    try:
        for offset in COPIES:
            os.pwrite(descriptor, encode(state), offset)
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def running_slot():
    """ "A" or "B", as the boot loader said on the command line."""
    for word in Path("/proc/cmdline").read_text().split():
        if word.startswith("uos.slot="):
            return word.removeprefix("uos.slot=").upper()
    raise Refused("the command line names no slot")


def healthy():
    """Whether notifyd answers on its API socket; that it started is not enough."""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(10)
            connection.connect("/run/notifyd/admin.sock")
            connection.sendall(b"GET /api/v1/status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            answer = b""
            while piece := connection.recv(65536):
                answer += piece
    except OSError:
        return False
    return answer.startswith(b"HTTP/1.1 200 ") and b'"state"' in answer


def confirm():
    """Gives the running slot its tries back and prefers it; a slot on trial only once notifyd answers.

    A slot that has proved itself is not given up because notifyd is ill: its settings or flash are, and the page must
    stay up to say so.
    """
    device, slot = partition("bootstate"), running_slot()
    state = read_state(device)
    end = time.monotonic() + HEALTH_DEADLINE_S
    while state.get("BOOT_TRIAL") == slot and not healthy():
        if time.monotonic() > end:
            raise Refused("notifyd does not answer: this slot is not confirmed")
        time.sleep(POLL_S)
    wanted = state | {f"BOOT_{slot}_LEFT": str(TRIES), "BOOT_ORDER": order_with(slot), "BOOT_TRIAL": NO_TRIAL}
    if wanted != state:
        write_state(device, wanted)


def order_with(slot):
    """The order of preference with `slot` first."""
    return "A B" if slot == "A" else "B A"


def prefer(slot):
    """The next start tries `slot`; it must confirm itself within its tries."""
    if slot not in ("A", "B"):
        raise Refused("a slot is A or B")
    device = partition("bootstate")
    trial = {f"BOOT_{slot}_LEFT": str(TRIES), "BOOT_ORDER": order_with(slot), "BOOT_TRIAL": slot}
    write_state(device, read_state(device) | trial)


def install(bundle):
    """Writes the slot that is not running from a bundle (tar of manifest.json, kernel.fit, root.squashfs).

    What was written is checked against the manifest, and only then the boot loader may try it.
    """
    import tarfile  # here, since confirming a start must be quick

    slot = "B" if running_slot() == "A" else "A"
    state_device = partition("bootstate")
    try:
        with tarfile.open(bundle) as archive:
            manifest = json.load(archive.extractfile("manifest.json"))
            # A slot that is only half written must not be startable.
            write_state(state_device, read_state(state_device) | {f"BOOT_{slot}_LEFT": "0"})
            for name, target in (("kernel.fit", "kernel"), ("root.squashfs", "root")):
                device = partition(f"{target}_{slot.lower()}")
                copy_verified(archive.extractfile(name), device, manifest["files"][name])
    except tarfile.TarError as error:
        raise Refused(f"{bundle} is not an upgrade bundle: {error}") from None
    prefer(slot)
    print(f"slot {slot} holds {manifest['version']}; restart to try it")


def copy_verified(source, device, expected):
    """Copies the stream onto the device, reads it back, raises Refused when the digest is not the expected one."""
    import hashlib

    descriptor = os.open(device, os.O_RDWR | os.O_CLOEXEC | os.O_EXCL)  # exclusive: refused while it is mounted
    try:
        length = 0
        while block := source.read(BLOCK):
            os.write(descriptor, block)
            length += len(block)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        digest = hashlib.sha256()
        os.lseek(descriptor, 0, os.SEEK_SET)
        while length:
            block = os.read(descriptor, min(BLOCK, length))
            digest.update(block)
            length -= len(block)
    finally:
        os.close(descriptor)
    if digest.hexdigest() != expected:
        raise Refused(f"{device} does not hold what the manifest promises")


def main():
    command, *arguments = sys.argv[1:] or ["status"]
    try:
        if command == "status" and not arguments:
            print(json.dumps({"running": running_slot(), **read_state(partition("bootstate"))}))
        elif command == "confirm" and not arguments:
            confirm()
        elif command == "prefer" and len(arguments) == 1:
            prefer(arguments[0].upper())
        elif command == "install" and len(arguments) == 1:
            install(Path(arguments[0]))
        else:
            print("usage: bootstate.py status|confirm|prefer SLOT|install BUNDLE", file=sys.stderr)
            return 2
    except (Refused, OSError, KeyError, ValueError, EOFError) as error:
        print(f"bootstate: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
