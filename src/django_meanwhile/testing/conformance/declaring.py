"""The contract of Django, first part: tasks and their options, before anything is enqueued."""

# ruff: noqa: PT009, PT027 - a mixin for unittest's classes

from __future__ import annotations

import dataclasses
import inspect
import pickle
from datetime import datetime, timedelta
from typing import Any
from unittest import mock

from django.conf import settings
from django.test import override_settings
from django.utils import timezone
from django.utils.module_loading import import_string

from ...compat import (
    TASK_MAX_PRIORITY,
    TASK_MIN_PRIORITY,
    BaseTask,
    BaseTaskBackend,
    InvalidTask,
    task_backends,
)
from . import tasks
from .base import Conformance
from .dialect import can_be_pickled, task

InvalidTaskBackend = task_backends.exception_class


async def _a_coroutine_function() -> None:
    """Be decorated by a test."""


def _a_function(first: Any = None) -> None:
    """Be decorated by a test."""


class DeclaringConformance(Conformance):
    """See the module."""

    # --- the backend --------------------------------------------------------------------

    def test_the_alias_leads_to_the_backend(self) -> None:
        """``task_backends`` and ``get_backend()`` give the backend of the alias, with the options of the settings."""
        backend = task_backends[self.backend]
        self.assertIs(self.on(tasks.noop).get_backend(), backend)
        self.assertEqual(self.on(tasks.noop).backend, self.backend)
        self.assertEqual(backend.alias, self.backend)
        self.assertEqual(backend.options, settings.TASKS[self.backend].get("OPTIONS", {}))

    def test_the_backend_is_complete(self) -> None:
        """It is a ``BaseTaskBackend`` with an ``enqueue()`` of its own; a class without one cannot be made."""
        self.assertIsInstance(self.its, BaseTaskBackend)
        self.assertIsNot(type(self.its).enqueue, BaseTaskBackend.enqueue)
        incomplete: Any = type("Incomplete", (BaseTaskBackend,), {})
        self.assertRaises(TypeError, incomplete, "default", {})

    def test_its_checks_are_satisfied(self) -> None:
        """``check()`` finds nothing wrong with the settings of this test."""
        self.assertEqual(list(self.its.check()), [])

    def test_a_backend_that_is_not_configured_is_refused(self) -> None:
        """``using(backend=...)`` knows the aliases of ``TASKS`` only."""
        message = self.assert_refused(InvalidTaskBackend, tasks.noop.using, backend="unknown")
        self.assertIn("unknown", message)

    def test_a_backend_that_cannot_be_imported_is_refused(self) -> None:
        """A path in ``TASKS`` that leads nowhere is named."""
        with override_settings(TASKS={**settings.TASKS, "missing": {"BACKEND": "does.not.exist"}}):
            message = self.assert_refused(InvalidTaskBackend, tasks.noop.using, backend="missing")
        self.assertIn("does.not.exist", message)

    def test_without_backends_nothing_is_enqueued(self) -> None:
        """With empty ``TASKS`` an enqueue raises."""
        on_it = self.on(tasks.noop)
        with override_settings(TASKS={}):
            self.assert_refused(InvalidTaskBackend, on_it.enqueue)

    # --- tasks --------------------------------------------------------------------------

    def test_a_decorated_function_is_a_task(self) -> None:
        """With and without parentheses, of the backend's ``task_class``; standard options keep their values."""
        for made in (tasks.noop, tasks.bare, task(backend=self.backend)(_a_function)):
            self.assertIsInstance(made, BaseTask)
        made = task(backend=self.backend, queue_name="default")(_a_function)
        self.assertIsInstance(made, self.its.task_class)
        self.assertEqual((made.priority, made.queue_name, made.run_after), (0, "default", None))
        self.assertFalse(made.takes_context)

    def test_coroutine_functions_need_support(self) -> None:
        """They are tasks with ``supports_async_task``, and refused without."""
        if self.its.supports_async_task:
            made = task(backend=self.backend)(_a_coroutine_function)
            self.assertIsInstance(made, BaseTask)
            with mock.patch.object(type(self.its), "supports_async_task", new=False):
                self.assert_refused(InvalidTask, self.its.validate_task, made)
        else:
            self.assert_refused(InvalidTask, task(backend=self.backend), _a_coroutine_function)

    def test_options_that_do_not_exist_are_refused(self) -> None:
        """The decorator takes what the ``task_class`` knows, and raises ``TypeError`` for anything else."""
        self.assertRaises(TypeError, lambda: task(backend=self.backend, unknown_option=1)(_a_function))

    def test_options_of_the_task_class_are_taken(self) -> None:
        """The decorator hands over what the ``task_class`` of the backend knows; what is not given has its default."""
        takes_more = any(p.kind is p.VAR_KEYWORD for p in inspect.signature(task).parameters.values())
        if not takes_more:
            self.skipTest("the decorator of this dialect takes Django's own options only")
        given: Any = self.its.task_class
        extended = dataclasses.make_dataclass(
            "Extended", [("foo", int, 3), ("bar", int, 300)], bases=(given,), frozen=True, kw_only=True
        )
        with mock.patch.object(type(self.its), "task_class", new=extended), self.configured(QUEUES=["default", "high"]):
            plain = task(backend=self.backend)(_a_function)
            made = task(backend=self.backend, queue_name="high", foo=5, bar=600)(_a_function)
            self.assertRaises(TypeError, lambda: task(backend=self.backend, baz=1)(_a_function))
        self.assertIsInstance(made, extended)
        self.assertEqual((plain.foo, plain.bar, plain.queue_name), (3, 300, "default"))
        self.assertEqual((made.foo, made.bar, made.queue_name), (5, 600, "high"))
        self.assertEqual((made.takes_context, made.run_after), (False, None))

    def test_the_due_time_is_no_option_of_the_decorator(self) -> None:
        """A time that passes once makes no sense there: ``TypeError``, which names ``using()`` or the option."""
        self.assertRaises(TypeError, lambda: task(backend=self.backend, run_after=timezone.now())(_a_function))

    def test_functions_that_cannot_be_found_are_refused(self) -> None:
        """A builtin or a method has no name in a module that a worker could import."""
        for function in (any, self.test_functions_that_cannot_be_found_are_refused):
            with self.subTest(function):
                self.assert_refused(InvalidTask, task(backend=self.backend), function)

    def test_the_context_needs_its_parameter(self) -> None:
        """``takes_context=True`` wants a first parameter of the name ``context``."""
        self.assert_refused(InvalidTask, task(backend=self.backend, takes_context=True), _a_function)

    def test_names_lead_back_to_the_task(self) -> None:
        """``name`` is the function's; ``module_path`` can be imported and is the task."""
        self.assertEqual(tasks.noop.name, "noop")
        self.assertEqual(tasks.noop.module_path, f"{tasks.__name__}.noop")
        self.assertIs(import_string(tasks.noop.module_path), tasks.noop)
        if self.its.supports_async_task:
            from . import async_tasks  # noqa: PLC0415 - only where the backend takes them

            self.assertIs(import_string(async_tasks.noop_async.module_path), async_tasks.noop_async)

    def test_tasks_can_be_called_directly(self) -> None:
        """``call()`` runs a function or a coroutine function here and now."""
        self.assertEqual(self.on(tasks.answer).call(), 42)
        if self.its.supports_async_task:
            from . import async_tasks  # noqa: PLC0415 - only where the backend takes them

            self.assertEqual(self.on(async_tasks.answer_async).call(), 42)

    async def test_tasks_can_be_called_directly_async(self) -> None:
        """``acall()`` runs a function or a coroutine function here and now."""
        self.assertEqual(await self.on(tasks.answer).acall(), 42)
        if self.its.supports_async_task:
            from . import async_tasks  # noqa: PLC0415 - only where the backend takes them

            self.assertEqual(await self.on(async_tasks.answer_async).acall(), 42)

    def test_a_task_can_be_pickled(self) -> None:
        """It comes back equal; a pickle that leads to nothing, or to something that is no task, is refused."""
        if not can_be_pickled(tasks.noop):
            self.skipTest("tasks of this dialect cannot be pickled")
        pickled = pickle.dumps(tasks.noop)
        self.assertEqual(pickle.loads(pickled), tasks.noop)  # noqa: S301 - our own
        for name in (b"nope", b"data"):
            with self.subTest(name):
                self.assert_refused(ValueError, pickle.loads, pickled.replace(b"noop", name))

    # --- using() ------------------------------------------------------------------------

    def test_using_returns_a_changed_copy(self) -> None:
        """The copy has the new value, the task keeps the old one; without changes they are equal, not the same."""
        original = self.on(tasks.noop)
        later = timezone.now() + timedelta(hours=1)
        changes: dict[str, Any] = {}
        if self.its.supports_priority:
            changes["priority"] = 1
        if self.its.supports_defer:
            changes["run_after"] = later
        with self.configured(QUEUES=[]):
            for name, value in {**changes, "queue_name": "queue_1"}.items():
                before = getattr(original, name)
                self.assertEqual(getattr(original.using(**{name: value}), name), value)
                self.assertEqual(getattr(original, name), before)
        self.assertEqual(original.using(), original)
        self.assertIsNot(original.using(), original)

    def test_using_can_be_chained(self) -> None:
        """The later call keeps what the earlier one has changed."""
        self.needs("supports_priority", "supports_defer")
        later = timezone.now() + timedelta(hours=1)
        first = self.on(tasks.noop, run_after=later)
        second = first.using(priority=10)
        self.assertEqual((second.priority, second.run_after), (10, later))
        self.assertEqual((first.priority, first.run_after), (0, later))

    def test_priorities_are_whole_numbers_in_a_range(self) -> None:
        """From -100 to 100; others are refused. Without ``supports_priority`` every priority but the default is."""
        on_it = self.on(tasks.noop)
        if self.its.supports_priority:
            for allowed in (TASK_MIN_PRIORITY, 0, TASK_MAX_PRIORITY):
                self.assertEqual(on_it.using(priority=allowed).priority, allowed)
            for refused in (TASK_MIN_PRIORITY - 1, TASK_MAX_PRIORITY + 1, 3.1):
                with self.subTest(refused):
                    self.assert_refused((InvalidTask, ValueError), on_it.using, priority=refused)
        with mock.patch.object(type(self.its), "supports_priority", new=False):
            self.assert_refused(InvalidTask, on_it.using, priority=10)

    def test_due_times_are_aware(self) -> None:
        """With ``USE_TZ`` a naive ``run_after`` is refused, since nobody knows which time it means."""
        self.needs("supports_defer")
        with override_settings(USE_TZ=True):
            self.assert_refused(InvalidTask, self.on(tasks.noop).using, run_after=datetime(2030, 1, 1))  # noqa: DTZ001

    def test_deferring_needs_support(self) -> None:
        """Without ``supports_defer`` a task with ``run_after`` is refused."""
        with mock.patch.object(type(self.its), "supports_defer", new=False):
            self.assert_refused(InvalidTask, self.on(tasks.noop).using, run_after=timezone.now())

    def test_queues_are_those_of_the_settings(self) -> None:
        """A queue that ``QUEUES`` does not list is refused; an empty list takes all."""
        with self.configured(QUEUES=["default", "queue_1"]):
            self.assertEqual(self.on(tasks.noop, queue_name="queue_1").queue_name, "queue_1")
            message = self.assert_refused(InvalidTask, self.on, tasks.noop, queue_name="queue_2")
            self.assertIn("queue_2", message)
        with self.configured(QUEUES=[]):
            self.assertEqual(self.on(tasks.noop, queue_name="queue_2").queue_name, "queue_2")
