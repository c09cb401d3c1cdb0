"""What will be served, and how: flags over ``MEANWHILE["SERVER"]`` over defaults, checked. Starts nothing.

Called by the command ``serve``. A mistake is a ``CommandError`` that names the flag or key, the value and the rule.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from django.conf import settings as django_settings
from django.core.management.base import CommandError

from ..conf import SERVER, ServerSettings
from ..core.address import Address, parse_address

Interface = Literal["wsgi", "asgi"]

WSGI_THREADS, ASGI_THREADS = 8, 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ServePlan:
    """Everything that is decided before a process is started."""

    settings: ServerSettings
    interface: Interface
    #: The dotted path of the application, and where it was found. Empty: Django's own, made from the settings.
    application: str
    source: str
    address: Address
    #: Server processes: one while files are watched.
    workers: int

    @property
    def threads(self) -> int:
        """Threads of Python in each process (WSGI), or threads of Rust around its one loop (ASGI)."""
        if self.interface == "wsgi":
            return self.settings.threads or WSGI_THREADS
        return min(self.settings.threads or ASGI_THREADS, os.cpu_count() or 1)

    @property
    def at_once(self) -> int | None:
        """Requests that the server's code handles at once, each of which may hold a connection to the database.

        None: without a limit of its own (ASGI).
        """
        return self.workers * self.threads if self.interface == "wsgi" else None


def make_plan(settings: ServerSettings, flags: Mapping[str, Any]) -> ServePlan:
    """Return the plan; ``flags`` are those that were given, by the names of the settings."""
    given = {}
    for name, value in flags.items():
        try:
            given[name] = SERVER[name](value)
        except ValueError as error:
            raise CommandError(f"--{name.replace('_', '-')} {value}: {error}.") from None
    settings = replace(settings, **given)
    _check_tls(settings)
    interface: Interface = _configured_interface() if settings.interface == "auto" else settings.interface
    application, source = find_application(interface)
    return ServePlan(
        settings=settings,
        interface=interface,
        application=application,
        source=source,
        address=parse_address(settings.bind),
        workers=1 if settings.reload else settings.workers,
    )


def _configured_interface() -> Interface:
    """ASGI if the project names an ASGI application: Django's own template of a project names a WSGI one only."""
    return "asgi" if getattr(django_settings, "ASGI_APPLICATION", None) else "wsgi"


def find_application(interface: Interface) -> tuple[str, str]:
    """Return the application's dotted path and where it was found; both are empty if Django makes it."""
    name = f"{interface.upper()}_APPLICATION"
    path = getattr(django_settings, name, None)
    if path:
        module, _, attribute = str(path).rpartition(".")
        if not module or not attribute.isidentifier():
            raise CommandError(f'{name} is {path!r}: it must be a dotted path, as in "mysite.{interface}.application".')
        if not _exists(module):
            raise CommandError(
                f"{name} is {path!r}: there is no module {module!r}. Correct the line in the settings, or delete it."
            )
        return str(path), name
    package = os.environ.get("DJANGO_SETTINGS_MODULE", "").rpartition(".")[0]
    while package:  # mysite.settings, or mysite.settings.production
        if _exists(f"{package}.{interface}"):
            return f"{package}.{interface}.application", "the module beside the settings"
        package = package.rpartition(".")[0]
    return "", ""


def _exists(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ImportError:  # of a package above it
        return False


def _check_tls(settings: ServerSettings) -> None:
    paths = {"tls_certificate": settings.tls_certificate, "tls_key": settings.tls_key}
    missing = [name for name, path in paths.items() if path is None]
    if len(missing) == 1:
        raise CommandError(
            f"{missing[0]} is missing: TLS takes both, --tls-certificate and --tls-key, or neither."
        )  # fmt: skip
    for name, path in paths.items():
        if path is not None and not Path(path).is_file():
            raise CommandError(f"--{name.replace('_', '-')} {path}: there is no such file.")
    if settings.tls_certificate and settings.tls_key:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(settings.tls_certificate, settings.tls_key)
        except (ssl.SSLError, OSError) as error:
            raise CommandError(
                f"--tls-certificate {settings.tls_certificate} and --tls-key {settings.tls_key} are no certificate and "
                f"its key, in PEM: {error.strerror or error}."
            ) from None
