"""The decorator of the dialect in force, and the name of its logger. Used by the suites and their tasks."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from ...compat import BaseTask

DIALECT = BaseTask.__module__.rpartition(".")[0]
"""``django.tasks``, or ``django_tasks`` on Django 5.2. Also the name of its logger."""

task: Any = import_module(BaseTask.__module__).task
"""As a project imports it."""


def can_be_pickled(made: Any) -> bool:
    """Whether tasks of this class know how: those of Django before 6.1 do not."""
    return "__reduce__" in {name for cls in type(made).__mro__[:-1] for name in vars(cls)}
