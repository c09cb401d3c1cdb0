"""The setting ``MEANWHILE`` itself, what is nearly called so, and the project's logging. Called by ``checks``."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Iterator

from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage, Error

from .. import logs, surroundings
from ..conf import KEYS, read_settings
from ..core.errors import ContextError

_LOGGERS = ("worker", "jobs", "store")


def check() -> Iterator[CheckMessage]:
    """Yield E001, E006, W010, W011."""
    values, problems = read_settings()
    for problem in problems:
        yield Error(problem.message, hint=problem.hint, id=problem.id)
    for path in values.context:
        try:
            surroundings.load_hook(path)
        except ContextError as error:
            yield Error(
                str(error),
                hint=f'Write the hook, or delete {path!r} from MEANWHILE["CONTEXT"]: until then enqueue() raises.',
                id="meanwhile.E006",
            )
    yield from _nearly()
    yield from _silenced()


def _nearly() -> Iterator[CheckMessage]:
    """A setting of another name is read by nobody, and says so to nobody."""
    for name in dir(settings):
        key = name.removeprefix("DJANGO_").removeprefix("MEANWHILE_")
        if name == "MEANWHILE" or not name.isupper():
            continue
        if name.startswith(("MEANWHILE_", "DJANGO_MEANWHILE_")) and key in KEYS:
            mend = f'MEANWHILE = {{"{key}": ...}}'
        elif name == "DJANGO_MEANWHILE" or difflib.SequenceMatcher(None, name, "MEANWHILE").ratio() > 0.85:  # noqa: PLR2004
            mend = "MEANWHILE = {...}"
        else:
            continue
        yield checks.Warning(
            f"The settings have {name}, which nobody reads: django_meanwhile reads MEANWHILE, a dictionary.",
            hint=f"Write: {mend}",
            id="meanwhile.W010",
        )


def _silenced() -> Iterator[CheckMessage]:
    dropping = [name for name in _LOGGERS if _drops_warnings(logs.get_logger(name))]
    if dropping:
        yield checks.Warning(
            f"LOGGING drops the warnings of the logger {logs.ROOT}.{dropping[0]}: nobody would be told of failed jobs, "
            "lost workers and queues that nobody works.",
            hint=f'Write: LOGGING["loggers"]["{logs.ROOT}"] = {{"handlers": [...], "level": "INFO"}}, and '
            'LOGGING["disable_existing_loggers"] = False',
            id="meanwhile.W011",
        )


def _drops_warnings(logger: logging.Logger) -> bool:
    # isEnabledFor() also counts logging.disable(), which is no setting of the project but a test run's.
    return logger.disabled or logger.getEffectiveLevel() > logging.WARNING
