"""``manage.py meanwhile``: the entry that Django finds. Parses the command line, and hands over to a subcommand."""

# ruff: noqa: ARG002 - the signatures are Django's

from __future__ import annotations

import argparse
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from ..subcommands import SUBCOMMANDS, Subcommand

_DESCRIPTION = """\
Runs background jobs, and shows and steers them.

In production a worker runs beside the web server, under systemd, supervisord, Docker or whatever keeps processes alive:

    manage.py meanwhile worker

The other commands may be run anywhere, at any time; they never stop a worker.
"""

_EPILOG = """\
examples:
  manage.py meanwhile worker --threads 8 --processes 2     work until told to stop (SIGTERM)
  manage.py meanwhile check                                what would a worker start, and do the settings allow it
  manage.py meanwhile status                               is everything all right; exit status 1 if not
  manage.py meanwhile show 0190d2a4                        all about one job: arguments, attempts, tracebacks
  manage.py meanwhile retry --state failed --since 2h      once the cause is mended

"manage.py meanwhile COMMAND --help" explains a command, with examples.
"""


class Command(BaseCommand):
    """See the module."""

    help = _DESCRIPTION
    requires_system_checks = ()  # "check" runs ours and explains them; a probe must not wait for all others

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        """Keep the line breaks of the texts above."""
        kwargs.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        return super().create_parser(prog_name, subcommand, epilog=_EPILOG, **kwargs)

    def add_arguments(self, parser: CommandParser) -> None:
        """Add one parser for each subcommand."""
        subparsers = parser.add_subparsers(dest="subcommand", metavar="COMMAND", title="commands")
        for subcommand in SUBCOMMANDS:
            subparser = subparsers.add_parser(
                subcommand.name,
                help=subcommand.summary,
                description=subcommand.description,
                epilog=subcommand.epilog,
                formatter_class=argparse.RawDescriptionHelpFormatter,
            )
            subcommand.add_arguments(subparser)
            _add_common_arguments(subparser)

    def handle(self, *args: Any, **options: Any) -> None:
        """Run the subcommand; exit with its status."""
        subcommand = find(options["subcommand"])
        if subcommand is None:
            self.stdout.write(self.create_parser("manage.py", "meanwhile").format_help())
            return
        status = subcommand(self).handle(options)
        if status:
            sys.exit(status)


def find(name: str | None) -> type[Subcommand] | None:
    """Return the subcommand of that name."""
    return next((subcommand for subcommand in SUBCOMMANDS if subcommand.name == name), None)


def _add_common_arguments(parser: CommandParser) -> None:
    """Let Django's own options stand after the subcommand as well. Without defaults: those of the command hold."""
    common = parser.add_argument_group("options of every command")
    common.add_argument(
        "-v",
        "--verbosity",
        type=int,
        choices=[0, 1, 2, 3],
        default=argparse.SUPPRESS,
        help="0: say little, 2: say more",
    )
    for flag in ("--settings", "--pythonpath"):  # Django has read these two already
        common.add_argument(flag, default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    for flag in ("--traceback", "--no-color", "--force-color"):
        common.add_argument(flag, action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
