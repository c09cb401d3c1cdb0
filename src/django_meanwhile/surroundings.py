"""What surrounds a call: language, time zone, and whatever the project's own hooks capture.

Captured at the enqueue, in the caller; stored in the row's ``context``; restored
around the body::

    {"language": "de", "time_zone": "Europe/Berlin", "hooks": {"tenants.context.Tenant": "acme"}}

By name, because ``contextvars.copy_context()`` alone no longer carries language and
time zone on current asgiref, and because the body runs in another process anyway.

A hook is a class of ``MEANWHILE["CONTEXT"]`` with two methods: ``capture()`` returns
a value that a task could take as an argument, or None for nothing; ``restore(value)``
returns a context manager. All threads of a process share its instance. Data never
names code: only what the settings list is imported, and a stored hook that they do
not list fails the attempt, for a tenant's job without its tenant is worse than no
job. Called by ``tasks.enqueue`` and ``run.pipeline``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import cache
from types import TracebackType
from typing import Any, Protocol, Self

from django.core.signals import setting_changed
from django.utils import timezone, translation
from django.utils.module_loading import import_string

from . import logs
from .conf import get_settings
from .core.codec import decode_value, encode_value
from .core.errors import ContextError, DecodingError, EncodingError
from .core.text import class_path

logger = logs.get_logger("jobs")

MAX_VALUE_BYTES = 16 * 1024
"""Of one hook's value, as JSON: every job carries it."""

METHODS = ("capture", "restore")


class Hook(Protocol):
    """What a class of ``MEANWHILE["CONTEXT"]`` has."""

    def capture(self) -> Any:
        """Return what is to be restored, or None for nothing. In the caller; must not wait."""

    def restore(self, value: Any) -> AbstractContextManager[Any]:
        """Return a context manager around the body. In its thread, or on the event loop; must not wait there."""


def load_hook(path: str) -> Hook:
    """Import and make the hook of a dotted path; ``ContextError`` says why that cannot be."""
    named = f'MEANWHILE["CONTEXT"] names {path!r}'
    try:
        cls = import_string(path)
    except Exception as error:
        raise ContextError(
            f"{named}, which cannot be imported: {type(error).__name__}: {error}. "
            'Write the dotted path of a class, as in "tenants.context.Tenant".'
        ) from error
    missing = [name for name in METHODS if not callable(getattr(cls, name, None))]
    if not isinstance(cls, type) or missing:
        what = f"is no class but a {type(cls).__name__}" if not isinstance(cls, type) else f"has no {missing[0]}()"
        raise ContextError(f"{named}, which {what}. A hook is a class with capture(self) and restore(self, value).")
    try:
        hook: Hook = cls()
    except Exception as error:
        raise ContextError(
            f"{named}, and making an instance of it failed: {type(error).__name__}: {error}. It is made without "
            "arguments, once in each process."
        ) from error
    return hook


@cache
def _hooks() -> Mapping[str, Hook]:
    return {path: load_hook(path) for path in get_settings().context}


def _forget(*, setting: str, **_: object) -> None:
    if setting == "MEANWHILE":
        _hooks.cache_clear()


setting_changed.connect(_forget)


# --- capture --------------------------------------------------------------------------------


def capture(task: str, refusal: str = "not enqueued") -> str:
    """Return the surroundings in force, as the row of a job of ``task`` keeps them. ``refusal``: see below.

    Raises ``ContextError`` if a hook cannot say what it is there to say.
    """
    context: dict[str, Any] = {}
    language = translation.get_language()
    if language is not None:
        context["language"] = language
    zone = _zone_name()
    if zone is not None:
        context["time_zone"] = zone
    values = capture_hooks(task, refusal)
    if values:
        context["hooks"] = values
    return json.dumps(context)


def has_hooks() -> bool:
    """Whether the project has hooks at all."""
    return bool(_hooks())


def capture_hooks(what: str, refusal: str) -> dict[str, Any]:
    """Return the values of the project's hooks, as ``restored_hooks`` takes them.

    Raises ``ContextError`` if a hook cannot say what it is there to say: ``what`` (a task, a function) was then
    ``refusal`` ("not enqueued", "not called").
    """
    values = {path: _captured(path, hook, what, refusal) for path, hook in _hooks().items()}
    return {path: value for path, value in values.items() if value is not None}


def _captured(path: str, hook: Hook, task: str, refusal: str) -> Any:
    """Return a hook's value as it is stored."""
    try:
        value = hook.capture()
    except Exception as error:
        raise ContextError(
            f"{task}: {refusal}, because capture() of {path} raised {class_path(error)}: {error}. Where there is "
            "nothing to restore, it should return None."
        ) from error
    if value is None:
        return None
    try:
        return json.loads(encode_value(value, task=task, what=f"what {path}.capture() returned", limit=MAX_VALUE_BYTES))
    except EncodingError as error:
        raise ContextError(str(error)) from None


def _zone_name() -> str | None:
    """Name the current time zone as ``ZoneInfo`` would; None for an offset that no zone has."""
    zone = timezone.get_current_timezone()
    key = getattr(zone, "key", None)
    if key is not None:
        return str(key)
    offset = zone.utcoffset(None)
    if offset is None:
        return None
    hours, rest = divmod(offset.total_seconds(), 3600)
    if rest or not -12 <= hours <= 14:  # noqa: PLR2004 - the zones that exist
        return None
    return f"Etc/GMT{-int(hours):+d}" if hours else "UTC"


# --- restore --------------------------------------------------------------------------------


@contextmanager
def restored(text: str) -> Iterator[Mapping[str, Any]]:
    """Run the block under the language and time zone of a job's ``context``; yield what ``restored_hooks`` takes."""
    context = decode_names(text, "context")
    language, zone = context.get("language"), context.get("time_zone")
    with ExitStack() as stack:
        if language is not None:
            stack.enter_context(translation.override(language))
        if zone is not None:
            stack.enter_context(timezone.override(zone))
        yield context.get("hooks", {})


def restored_hooks(values: Mapping[str, Any], label: str) -> AbstractContextManager[object]:
    """Return a context manager that restores the hooks' values, the first of the settings outermost.

    What the block raises passes through them and cannot be hidden or replaced by them.
    ``ContextError`` for a hook that fails, or that the settings no longer list;
    ``label`` names the job in it.
    """
    if not values:
        return ExitStack()
    hooks = _hooks()
    for path in values:
        if path not in hooks:
            raise ContextError(
                f"{label} was enqueued with the context hook {path!r}, which the settings here do not list: without "
                f'it the body is not run. Write MEANWHILE = {{"CONTEXT": ["{path}"]}}, or retry the job once its code '
                "is deployed."
            )
    with ExitStack() as stack:
        for path, hook in hooks.items():
            if path in values:
                stack.enter_context(_Restored(path, hook, values[path], label))
        return stack.pop_all()


class _Restored:
    """One hook's context manager, whose own failures name the hook and the job."""

    def __init__(self, path: str, hook: Hook, value: Any, label: str) -> None:
        self._path, self._hook, self._value, self._label = path, hook, value, label

    def __enter__(self) -> Self:
        try:
            value = decode_value(json.dumps(self._value), what=f"value of {self._path}")
            self._manager = self._hook.restore(value)
            if not isinstance(self._manager, AbstractContextManager):
                raise TypeError(  # noqa: TRY301 - told as every other failure
                    f"it returned {type(self._manager).__name__!r}, which is no context manager: "
                    "decorate it with @contextlib.contextmanager and yield once"
                )
            self._manager.__enter__()
        except Exception as error:
            raise self._failed("restore() failed before the body began", error) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._manager.__exit__(kind, raised, trace)
        except Exception as error:
            if raised is None:
                raise self._failed("the end of restore() failed after the body had returned", error) from error
            if error is not raised:
                logger.warning(
                    "%s: the end of restore() of %s failed after the body had failed: %s: %s",
                    self._label, self._path, class_path(error), error,
                )  # fmt: skip
        finally:
            if raised is not None:  # a hook that handles the error leaves its own frames in there
                raised.__traceback__ = trace

    def _failed(self, what: str, error: Exception) -> ContextError:
        return ContextError(f"{self._label}: {self._path}: {what}: {class_path(error)}: {error}")


def decode_names(text: str, what: str) -> dict[str, Any]:
    """Return the dictionary that a job's ``context`` or ``overrides`` holds, or raise ``DecodingError``."""
    try:
        value = json.loads(text)
    except ValueError as error:
        raise DecodingError(f"The job's {what} cannot be read: {error}.") from error
    if not isinstance(value, dict):
        raise DecodingError(f"The job's {what} cannot be read: it is a {type(value).__name__}, not a dictionary.")
    return value
