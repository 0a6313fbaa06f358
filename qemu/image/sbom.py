"""What is in the image, for people who must answer for it: a CycloneDX SBOM and a manifest with digests.

Debian packages come from the image's own dpkg status, Python packages from the installed metadata. A file of the root
that belongs to neither is named in the manifest under the part of this repository that it came from.
"""

from __future__ import annotations

import email.parser
import hashlib
import json
import uuid
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from qemu.image.board import Board

_NAMESPACE = uuid.UUID("6d2ff3a2-58f5-4c0e-9a2f-0d6d1f7c3b11")


def write_sbom(board: Board, base: Path, root: Path, site_packages: str, version: str, epoch: int, target: Path) -> int:
    """Writes the SBOM; returns the number of components."""
    components = [*_debian(base / "dpkg-status"), *_python(root / site_packages)]
    components.append({"type": "application", "bom-ref": f"notifyd@{version}", "name": "notifyd", "version": version})
    timestamp = datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "serialNumber": f"urn:uuid:{uuid.uuid5(_NAMESPACE, json.dumps(components, sort_keys=True))}",
        "metadata": {
            "timestamp": timestamp,
            "component": {"type": "firmware", "bom-ref": board.id, "name": board.model, "version": board.firmware},
        },
        "components": components,
        "dependencies": [{"ref": board.id, "dependsOn": [component["bom-ref"] for component in components]}],
    }
    target.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n")
    return len(components)


def _debian(status: Path) -> Iterator[dict[str, Any]]:
    for stanza in sorted(status.read_text().split("\n\n")):
        fields = email.parser.HeaderParser().parsestr(stanza)
        if fields["Package"]:
            name, version, architecture = fields["Package"], fields["Version"], fields["Architecture"]
            url = f"pkg:deb/debian/{name}@{version.replace(':', '%3A')}?arch={architecture}"
            yield {"type": "library", "bom-ref": url, "name": name, "version": version, "purl": url}


def _python(site: Path) -> Iterator[dict[str, Any]]:
    for metadata in sorted(site.glob("*.dist-info/METADATA")):
        fields = email.parser.HeaderParser().parsestr(metadata.read_text())
        name, version = fields["Name"].lower().replace("_", "-"), fields["Version"]
        url = f"pkg:pypi/{name}@{version}"
        component: dict[str, Any] = {"type": "library", "bom-ref": url, "name": name, "version": version, "purl": url}
        if licence := fields["License-Expression"]:
            component["licenses"] = [{"expression": licence}]
        yield component


def write_manifest(board: Board, version: str, epoch: int, files: Iterable[Path], target: Path) -> Mapping[str, str]:
    """Writes version, model and the SHA-256 of every file; returns the digests by file name."""
    digests = {path.name: _sha256(path) for path in files}
    document = {
        "model": board.model,
        "firmware": board.firmware,
        "version": version,
        "built": datetime.fromtimestamp(epoch, UTC).isoformat(),
        "files": digests,
    }
    target.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n")
    return digests


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
