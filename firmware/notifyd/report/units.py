"""Numbers and times as people read them."""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo


def size(count: float) -> str:
    """Bytes in decimal units, as providers and Microsoft count them."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if abs(count) < 1000 or unit == "TB":
            break
        count /= 1000
    return f"{count:.0f} {unit}" if unit == "B" or abs(count) >= 100 else f"{count:.1f} {unit}"


def percent(share: float) -> str:
    """A share of 1 as whole percent."""
    return f"{share * 100:.0f} %"


def duration(seconds: float) -> str:
    """The two largest units."""
    minutes = int(seconds // 60)
    days, hours, minutes = minutes // 1440, minutes // 60 % 24, minutes % 60
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def clock(wall: float, zone: tzinfo, pattern: str = "%Y-%m-%d %H:%M") -> str:
    """A moment in the report's zone; what no calendar holds is shown as its nearest end."""
    bounded = min(max(wall, 0.0), 253_402_214_400.0)
    return datetime.fromtimestamp(bounded, UTC).astimezone(zone).strftime(pattern)


def moment_of(text: str) -> float:
    """RFC 3339 as wall-clock seconds; 0 when it is something else."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return 0.0
