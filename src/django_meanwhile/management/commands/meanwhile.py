"""``manage.py meanwhile``: the entry that Django finds. Parses the command line, and hands over to a subcommand."""

# ruff: noqa: ARG002 - the signatures are Django's

from __future__ import annotations

import argparse
import os
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.core.management.color import no_style

from .. import overview
from ..subcommands import SUBCOMMANDS, Subcommand


class Command(BaseCommand):
    """See the module."""

    help = overview.description()
    requires_system_checks = ()  # "check" runs ours and explains them; a probe must not wait for all others

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        """Keep the line breaks of the texts above."""
        kwargs.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        kwargs.setdefault("usage", f"{os.path.basename(prog_name) or 'manage.py'} {subcommand} COMMAND [options]")  # noqa: PTH119
        return super().create_parser(prog_name, subcommand, epilog=overview.LAST, **kwargs)

    def add_arguments(self, parser: CommandParser) -> None:
        """Add one parser for each subcommand."""
        # Listed in the description, by purpose, which argparse cannot do: hence no help and no title here.
        subparsers = parser.add_subparsers(
            dest="subcommand", metavar="COMMAND", help=argparse.SUPPRESS, prog="manage.py meanwhile"
        )
        for subcommand in SUBCOMMANDS:
            subparser = subparsers.add_parser(
                subcommand.name,
                description=subcommand.description,
                epilog=subcommand.epilog,
                formatter_class=argparse.RawDescriptionHelpFormatter,
            )
            subcommand.add_arguments(subparser)
            _add_common_arguments(subparser)

    def execute(self, *args: Any, **options: Any) -> str | None:
        """Honour NO_COLOR, which Django does not, unless colours are asked for."""
        if os.environ.get("NO_COLOR") and not options["force_color"]:
            options["no_color"] = True
        return super().execute(*args, **options)

    def handle(self, *args: Any, **options: Any) -> None:
        """Run the subcommand; exit with its status."""
        if not options["force_color"] and not self.stdout.isatty():
            self.style = no_style()  # Django's choice is by sys.stdout, wherever this command writes
        subcommand = find(options["subcommand"])
        if subcommand is None:
            self._show_overview()
            return
        status = subcommand(self).handle(options)
        if status:
            sys.exit(status)

    def _show_overview(self) -> None:
        self.stdout.write(overview.FIRST, ending="")
        for heading, lines in overview.commands():
            self.stdout.write(self.style.MIGRATE_HEADING(f"\n{heading}"))
            self.stdout.write("\n".join(lines))
        self.stdout.write(self.style.MIGRATE_HEADING("\nThis project, now"))
        for line in overview.state():
            self.stdout.write(f"  {line}")
        self.stdout.write(f"\n{overview.LAST}")


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
