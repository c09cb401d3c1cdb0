"""What a subcommand is. Each module of this package holds one; ``commands/meanwhile`` calls them."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from django.core.management.base import BaseCommand, CommandParser


class Subcommand(ABC):
    """One subcommand. Made for one call; prints to the command's own streams.

    What cannot be done is a ``CommandError`` that names the object, the value, the rule and the next step.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    """One line, for the list of commands."""

    description: ClassVar[str]
    epilog: ClassVar[str]
    """Examples, and what the exit status means."""

    def __init__(self, command: BaseCommand) -> None:
        self.stdout = command.stdout
        self.stderr = command.stderr
        self.style = command.style

    @classmethod
    @abstractmethod
    def add_arguments(cls, parser: CommandParser) -> None:
        """Add its arguments."""

    @abstractmethod
    def handle(self, options: Mapping[str, Any]) -> int:
        """Do it, and return the exit status."""

    def say(self, text: str = "") -> None:
        """Print one or more lines."""
        self.stdout.write(text)

    def say_json(self, value: Any) -> None:
        """Print ``value`` as JSON, in ASCII, so that no value can reach the terminal as a control sequence."""
        self.stdout.write(json.dumps(value, indent=2))

    def warn(self, text: str) -> None:
        """Print a warning to stderr, in colour if that is a terminal, whatever stdout is."""
        self.stderr.write(text, self.style.WARNING if self.stderr.isatty() else str)

    def heading(self, text: str) -> None:
        """Print the heading of a block, in colour on a terminal."""
        self.stdout.write(self.style.MIGRATE_HEADING(text))
