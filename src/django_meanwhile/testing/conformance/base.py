"""What all suites share: the attributes that describe a backend, and the way from an enqueue to an end."""

# ruff: noqa: PT009, PT027 - a mixin for unittest's classes

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.test import TestCase, TransactionTestCase, override_settings

from ...compat import BaseTaskBackend, task_backends
from . import tasks

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.test import SimpleTestCase as _Base
else:
    _Base = object


class Conformance(_Base):
    """A mixin for a subclass of Django's ``SimpleTestCase``; most backends need ``TestCase`` or more."""

    #: The alias in ``TASKS``.
    backend = "default"

    #: Does ``enqueue()`` run the task before it returns?
    runs_at_enqueue = False

    #: Can the backend run tasks at all? (A double that only records them cannot.)
    can_run = True

    #: Can results be read again, in the thread of the enqueue at least? None: as ``supports_get_result`` says.
    can_read: bool | None = None

    #: Do bodies run in the test's own process, where receivers of signals and loggers see them?
    runs_in_process = True

    #: Does an enqueue commit and roll back with the caller's transaction on ``database``?
    is_transactional = False

    #: The database of those transactions.
    database = "default"

    def run_queued(self) -> None:
        """Run everything that is due, to its end. Override it, unless ``runs_at_enqueue``."""

    # --- for the suites -----------------------------------------------------------------

    @property
    def its(self) -> BaseTaskBackend:
        """The backend."""
        return task_backends[self.backend]

    def on(self, given: Any, **changes: Any) -> Any:
        """Return a task on the backend."""
        return given.using(backend=self.backend, **changes)

    def configured(self, **changes: Any) -> AbstractContextManager[Any]:
        """Change keys of the backend's entry in ``TASKS`` for a block."""
        entry = {**settings.TASKS[self.backend], **changes}
        return override_settings(TASKS={**settings.TASKS, self.backend: entry})

    def committed(self) -> AbstractContextManager[Any]:
        """Let callbacks of ``on_commit()`` run, where the test's own transaction would keep them."""
        if isinstance(self, TestCase):
            return self.captureOnCommitCallbacks(using=self.database, execute=True)
        return nullcontext()

    def ended(self, result: Any) -> Any:
        """Run what is queued, and return the result as it is then."""
        self.needs_runs()
        if not self.runs_at_enqueue:
            self.run_queued()
            result.refresh()
        return result

    def needs(self, *flags: str) -> None:
        """Skip the test unless the backend's flags ``supports_...`` are all true."""
        missing = [flag for flag in flags if not getattr(self.its, flag)]
        if missing:
            self.skipTest(f"{type(self.its).__name__}.{missing[0]} is False")

    def needs_runs(self, *, in_process: bool = False) -> None:
        """Skip the test unless the backend runs tasks, where the test can see them if ``in_process``."""
        if not self.can_run:
            self.skipTest("the backend runs nothing (can_run is False)")
        if in_process and not self.runs_in_process:
            self.skipTest("tasks run in other processes (runs_in_process is False)")

    @property
    def reads(self) -> bool:
        """Whether results can be read again."""
        return self.its.supports_get_result if self.can_read is None else self.can_read

    def needs_reads(self) -> None:
        """Skip the test unless results can be read again."""
        if not self.reads:
            self.skipTest("results cannot be read again (supports_get_result is False)")

    def needs_transactions(self) -> None:
        """Skip the test in a class that may not touch a database."""
        if not isinstance(self, TransactionTestCase):
            self.skipTest("the class is no TestCase or TransactionTestCase, so there is no transaction to look at")

    def sync_and_async(self) -> list[Any]:
        """Return a task of each colour that the backend supports, on the backend."""
        given = [self.on(tasks.noop)]
        if self.its.supports_async_task:
            from . import async_tasks  # noqa: PLC0415 - only where the backend takes them

            given.append(self.on(async_tasks.noop_async))
        return given

    def assert_refused(self, errors: Any, function: Callable[..., Any], *args: Any, **kwargs: Any) -> str:
        """Fail unless the call raises one of ``errors`` with a message; return that."""
        with self.assertRaises(errors) as caught:
            function(*args, **kwargs)
        message = str(caught.exception)
        self.assertTrue(message, f"{caught.exception!r} says nothing")
        return message
