"""Where a server listens: ``"127.0.0.1:8000"``, ``"[::]:8000"``, ``"8000"``, ``"unix:/run/site.sock"``. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

DEFAULT_HOST = "127.0.0.1"

_TCP = re.compile(r"(?:(?:\[(?P<ipv6>[0-9a-fA-F:.%a-z]+)\]|(?P<host>[A-Za-z0-9._-]+)):)?(?P<port>\d{1,5})")
_UNIX = "unix:"
_LAST_PORT = 65_535


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """``path`` is that of a Unix socket; without one, ``host`` and ``port`` are of TCP. Port 0: any free one."""

    host: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        """Write it as it would be written in the settings."""
        if self.path:
            return f"{_UNIX}{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: object) -> Address:
    """Read an address; ``ValueError`` says the rule. A bare port is on 127.0.0.1; the host 0 is every IPv4 address."""
    if isinstance(text, str):
        if text.startswith(_UNIX) and len(text) > len(_UNIX):
            return Address(path=text.removeprefix(_UNIX))
        if (found := _TCP.fullmatch(text)) and int(found["port"]) <= _LAST_PORT:
            host = found["ipv6"] or found["host"] or DEFAULT_HOST
            return Address(host="0.0.0.0" if host == "0" else host, port=int(found["port"]))  # noqa: S104 - asked for
    rule = 'must be "host:port", "[IPv6 address]:port", a port, or "unix:/path", as in "127.0.0.1:8000"'
    raise ValueError(rule)
