"""``manage.py serve``: reads the command line, checks the project, and hands over to ``serve``."""

# ruff: noqa: ARG002 - the signatures are Django's

from __future__ import annotations

import argparse
import os
import re
import sys
from importlib import metadata
from typing import Any

import django
from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError, connections

from ...conf import SERVER, get_settings
from ...core.address import Address
from ...serve.listening import listen, remove
from ...serve.plan import ServePlan, make_plan

INSTALL_SERVER = 'Run: pip install --upgrade "django-meanwhile[serve]"'

OLDEST = (2, 8, 6)
"""The first Granian that closes our socket before its processes end. Those of 2.7 may wait for themselves, and those up
to 2.8.1 for idle connections, until they are killed.
"""

DESCRIPTION = """\
Serves the project with Granian, a server for WSGI and ASGI, in development and in production.

Under DEBUG: files are watched and static files are served, as runserver does. Without DEBUG: neither.
Ctrl-C or SIGTERM: requests that run are answered, then it ends. SIGHUP: new processes with the new code.

Every flag has its default in MEANWHILE["SERVER"] in the settings, under the same name.
"""

EPILOG = """\
examples:
  manage.py serve                                        127.0.0.1:8000
  manage.py serve 0.0.0.0:9000 --workers 4 --threads 8   up to 32 requests at once, and as many connections
  manage.py serve --interface asgi --workers 4           async views, streaming, WebSockets
  manage.py serve unix:/run/site.sock                    behind nginx on the same host

exit status: 0 told to end, 1 it cannot serve: the one line above says why
"""


class Command(BaseCommand):
    """See the module."""

    help = DESCRIPTION

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        """Keep the line breaks of the texts above."""
        kwargs.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        return super().create_parser(prog_name, subcommand, epilog=EPILOG, **kwargs)

    def add_arguments(self, parser: CommandParser) -> None:
        """Add a flag for each key of the setting; one that is not given is None."""
        parser.add_argument("address", nargs="?", help='where to listen, as --bind: "8000", "0.0.0.0:8000"')
        add = parser.add_argument
        add("--workers", type=int, metavar="N", help="server processes (1); one while files are watched")
        add(
            "--threads", type=int, metavar="N",
            help="WSGI: requests at once in each process (8), each with its connection to the database. "
            "ASGI: threads of Rust around the process's one event loop (1)",
        )  # fmt: skip
        add("--interface", metavar="NAME", help="wsgi, asgi, or auto: asgi if the settings have ASGI_APPLICATION")
        add("--bind", metavar="ADDRESS", help='"127.0.0.1:8000", "[::]:8000", "8000" or "unix:/path"')
        add("--reload", action=argparse.BooleanOptionalAction, help="begin anew when a file changes (DEBUG)")
        add("--noreload", dest="reload", action="store_false", default=None, help=argparse.SUPPRESS)
        add("--access-log", action=argparse.BooleanOptionalAction, help="a line for each request (DEBUG)")
        add("--backlog", type=int, metavar="N", help="connections that may wait to be accepted (1024)")
        add(
            "--backpressure", type=int, metavar="N",
            help="connections that each process accepts at once (backlog / workers)",
        )  # fmt: skip
        add("--graceful-timeout", type=float, metavar="S", help="seconds for requests that run, at the end (30)")
        add("--worker-lifetime", type=float, metavar="S", help="replace a process after S seconds")
        add("--worker-max-rss", type=int, metavar="MIB", help="replace a process that has that many MiB")
        add("--tls-certificate", metavar="FILE", help="serve HTTPS, with this certificate (PEM) ...")
        add("--tls-key", metavar="FILE", help="... and this key")
        add("--url-path-prefix", metavar="PATH", help="the site is below this path, as in /shop")
        add("--log-level", metavar="LEVEL", help="of the server's own messages (warning)")

    def execute(self, *args: Any, **options: Any) -> str | None:
        """Honour NO_COLOR, which Django does not, unless colours are asked for."""
        if os.environ.get("NO_COLOR") and not options["force_color"]:
            options["no_color"] = True
        if options["no_color"]:  # how Django's own formatter of requests is told, in the server processes
            os.environ["DJANGO_COLORS"] = "nocolor"
        return super().execute(*args, **options)

    def handle(self, *args: Any, **options: Any) -> None:
        """Check, listen, serve; ``CommandError`` if that cannot be."""
        if not django_settings.DEBUG and not django_settings.ALLOWED_HOSTS:
            raise CommandError(
                "DEBUG is False and ALLOWED_HOSTS is empty: every request would be refused. Write "
                'ALLOWED_HOSTS = ["example.com"] in the settings.'
            )
        version = granian_version()
        plan = _plan(options)
        self._look_at_migrations()
        listeners = listen(plan.address, plan.settings.backlog, plan.workers)
        try:
            from ...serve.main import Main  # noqa: PLC0415 - imports Granian

            main = Main(plan, listeners, traceback=options["traceback"] or options["verbosity"] > 1)
            if options["verbosity"]:
                self._greet(plan, listeners[0].getsockname(), version)
            main.run()
        finally:
            for listener in listeners:
                listener.close()
            remove(plan.address, listeners[0])
        if main.failure:
            raise CommandError(f"The project cannot be served: {main.failure}")

    def _look_at_migrations(self) -> None:
        """Tell of migrations that have not run, as runserver does; a database that is away may come back."""
        try:
            self.check_migrations()
        except DatabaseError as error:
            self.stderr.write(f"The migrations were not checked: {error}", self.style.WARNING)
        finally:
            connections.close_all()

    def _greet(self, plan: ServePlan, name: Any, version: str) -> None:
        write = self.stdout.write
        write(
            f"Django {django.get_version()}, settings {os.environ.get('DJANGO_SETTINGS_MODULE', '')!r}, "
            f"{plan.interface.upper()} on Granian {version}"
        )
        scheme = "https" if plan.settings.tls_key else "http"
        shown = plan.address
        if not shown.path:
            shown = Address(host=shown.host, port=name[1])
        place = f"{shown}" if shown.path else f"{scheme}://{shown}{plan.settings.url_path_prefix}/"
        write(f"Serving at {self.style.SUCCESS(place)}")
        write(f"  {_describe(plan)}")
        if _needs_static_files():
            write(
                "  static files are not served without DEBUG: add whitenoise to MIDDLEWARE, or let nginx serve "
                "STATIC_ROOT"
            )
        write(f"Quit with {'CTRL-BREAK' if sys.platform == 'win32' else 'CONTROL-C'}.")
        self.stdout.flush()


def _plan(options: dict[str, Any]) -> ServePlan:
    flags = {name: options[name] for name in SERVER if options[name] is not None}
    if options["address"] is not None:
        if "bind" in flags:
            raise CommandError(f"Two addresses, {options['address']} and --bind {flags['bind']}: name one.")
        flags["bind"] = options["address"]
    try:
        settings = get_settings().server
    except ImproperlyConfigured as error:
        raise CommandError(str(error)) from None
    return make_plan(settings, flags)


def _describe(plan: ServePlan) -> str:
    """Return how many requests can be answered at once, in words."""
    processes = f"{plan.workers} process" + ("es" if plan.workers > 1 else "")
    if plan.settings.reload:
        if plan.settings.workers > plan.workers:
            processes += f" (workers: {plan.settings.workers} counts with --no-reload)"
        processes += ", started anew when a file changes"
    if plan.interface == "wsgi":
        return f"{processes}; {plan.threads} threads in each: up to {plan.at_once} requests at once"
    return f"{processes}; one event loop in each"


def _needs_static_files() -> bool:
    served = any("whitenoise" in each.lower() for each in django_settings.MIDDLEWARE)
    uses = "django.contrib.staticfiles" in django_settings.INSTALLED_APPS
    return uses and not django_settings.DEBUG and not served


def granian_version() -> str:
    """Return the version of Granian; ``CommandError`` has the line to install it."""
    try:
        version = metadata.version("granian")
    except metadata.PackageNotFoundError:
        raise CommandError(f"manage.py serve needs Granian, which is not installed. {INSTALL_SERVER}") from None
    found = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", version)
    if not found or tuple(map(int, found.groups("0"))) < OLDEST:
        raise CommandError(
            f"manage.py serve needs Granian {'.'.join(map(str, OLDEST))} or newer; {version} is installed. "
            f"{INSTALL_SERVER}"
        )
    return version
