r"""Log records: one line for one event, whatever a value contains; job id and task on each.

Called by everything that logs. Three loggers, by what a reader wants to follow::

    django_meanwhile.worker    processes: started, stopped, killed, fenced, recycled
    django_meanwhile.jobs      jobs: started, ended, retried, given back
    django_meanwhile.store     the database: slow, gone, back again

Every record carries ``job_id`` and ``task`` (empty where it is about no job), so that a formatter of the project
may use ``%(job_id)s``; a record about a job begins with both. Values are escaped: a line break or an ANSI sequence in
an argument cannot forge a line or colour a terminal. A traceback follows its record, whether its exception is in force
or only its text was kept (``for_job(..., lines=...)``); such a text is indented and escaped, too. It never configures
logging, except where a worker calls ``ensure_handler``.
"""

from __future__ import annotations

import logging
import re
import sys
import time
from collections.abc import Mapping
from typing import TextIO, TypeAlias
from uuid import UUID

ROOT = "django_meanwhile"
FORMAT = "%(asctime)s %(levelname)s %(name)s %(message)s"

# C0 and C1 controls, DEL, line and paragraph separators, marks that turn the direction of writing, lone surrogates.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_NAMED = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}

JobLogger: TypeAlias = "logging.LoggerAdapter[logging.Logger]"


def escape(text: str) -> str:
    """Write control characters as Python's ``repr`` does, so that ``text`` stays on its line."""
    return _UNSAFE.sub(_escape_one, text)


def _escape_one(match: re.Match[str]) -> str:
    character = match.group()
    code = ord(character)
    return _NAMED.get(character) or (f"\\x{code:02x}" if code <= 0xFF else f"\\u{code:04x}")  # noqa: PLR2004


def get_logger(name: str) -> logging.Logger:
    """Return the logger ``name`` ("django_meanwhile.worker" or just "worker"), with the escaping in place."""
    full = name if name == ROOT or name.startswith(f"{ROOT}.") else f"{ROOT}.{name}"
    logger = logging.getLogger(full)
    logger.addFilter(_ONE_LINE)  # the same object: adding it twice does nothing
    return logger


def for_job(logger: logging.Logger, job_id: UUID | str, task: str, *, lines: str = "") -> JobLogger:
    """Return a logger whose records are about one job; ``logger`` comes from ``get_logger``.

    ``lines``, say a traceback that was kept as text, follow the record as a traceback would.
    """
    return logging.LoggerAdapter(logger, {"job_id": str(job_id), "task": task, "lines": lines})


def indented(text: str) -> str:
    """Indent and escape each line of ``text``, so that none can pass for a record."""
    return "\n".join(f"    {escape(line)}" for line in text.rstrip("\n").split("\n"))


def ensure_handler(level: int = logging.INFO, stream: TextIO | None = None) -> bool:
    """Log to ``stream`` (stderr) if the project configured nothing for these loggers; say whether that was so.

    For worker processes only: each of them calls it once. Calling it again does nothing.
    """
    logger = logging.getLogger(ROOT)
    if logger.hasHandlers():
        return False
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(LineFormatter())
    logger.addHandler(handler)
    if logger.level == logging.NOTSET:
        logger.setLevel(level)
    return True


class LineFormatter(logging.Formatter):
    """Time (UTC), level, logger, message. A traceback follows indented: none of its lines can pass for a record."""

    converter = staticmethod(time.gmtime)
    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"

    def __init__(self) -> None:
        super().__init__(FORMAT)

    def formatException(self, ei: object) -> str:  # noqa: N802 - the standard library's name
        """Indent and escape each line."""
        return indented(super().formatException(ei))  # type: ignore[arg-type]


class _OneLine(logging.Filter):
    """Gives a record its job, and its values a form that cannot leave the line. It lets every record pass."""

    def filter(self, record: logging.LogRecord) -> bool:
        if getattr(record, "one_line", False):  # sent on from another process
            return True
        record.one_line = True
        args = record.args
        if not isinstance(args, Mapping):
            args = tuple(_safe(value) for value in args or ())
        else:
            args = {key: _safe(value) for key, value in args.items()}
        if not args:
            record.msg = escape(str(record.msg))
        job_id, task = getattr(record, "job_id", ""), getattr(record, "task", "")
        if job_id and isinstance(args, tuple):
            text = record.msg if args else record.msg.replace("%", "%%")
            record.msg, args = f"job %s %s: {text}", (_Escaped(job_id), _Escaped(task), *args)
        record.args = args
        record.job_id, record.task = escape(str(job_id)), escape(str(task))
        if lines := record.__dict__.pop("lines", ""):
            record.exc_text = indented(lines)  # where every formatter looks
        return True


class _Escaped:
    """A value that is turned into text, escaped, only when a handler formats the record."""

    def __init__(self, value: object) -> None:
        self._value = value

    def __str__(self) -> str:
        return escape(str(self._value))

    def __repr__(self) -> str:
        return escape(repr(self._value))


def _safe(value: object) -> object:
    return value if value is None or isinstance(value, int | float) else _Escaped(value)


_ONE_LINE = _OneLine()
