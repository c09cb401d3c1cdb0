"""The subcommands of ``manage.py meanwhile``, in the order of its help."""

from __future__ import annotations

from .base import Subcommand
from .cancel import Cancel
from .check import Check
from .list import List
from .prune import Prune
from .retry import Retry
from .show import Show
from .status import Status
from .worker import Worker

SUBCOMMANDS: tuple[type[Subcommand], ...] = (Worker, Check, Status, List, Show, Retry, Cancel, Prune)

__all__ = ["SUBCOMMANDS", "Subcommand"]
