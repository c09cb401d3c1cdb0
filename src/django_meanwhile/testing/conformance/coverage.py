"""Which test of ours covers which test of Django's own ``tests/tasks``, or why none does.

Read from the sdist of Django 6.1.3. Keys are ``class.method`` there, values methods of ``BackendConformance``;
``LEFT_OUT`` holds what is no contract of backends. A test of ours checks that both together are complete.
"""

from __future__ import annotations

_ENQUEUE = ("test_an_enqueue_returns_a_result",)
_ENQUEUE_ASYNC = ("test_an_enqueue_returns_a_result_async",)
_FAILS = ("test_an_exception_fails_the_task",)
_OPTIONS = ("test_options_of_the_task_class_are_taken",)
_USING = ("test_using_returns_a_changed_copy",)
_VALIDATED = ("test_the_task_is_validated_again_at_the_enqueue",)

COVERED: dict[str, tuple[str, ...]] = {
    # --- test_custom_backend.py
    "CustomBackendTestCase.test_using_correct_backend": ("test_the_alias_leads_to_the_backend",),
    "CustomBackendTestCase.test_enqueue_async_task_on_non_async_backend": ("test_coroutine_functions_need_support",),
    "CustomBackendTestCase.test_backend_does_not_support_priority": ("test_priorities_are_whole_numbers_in_a_range",),
    "CustomBackendTestCase.test_options": ("test_the_alias_leads_to_the_backend",),
    "CustomBackendTestCase.test_no_enqueue": ("test_the_backend_is_complete",),
    "CustomTaskTestCase.test_custom_task_default_values": _OPTIONS,
    "CustomTaskTestCase.test_custom_task_with_custom_values": _OPTIONS,
    "CustomTaskTestCase.test_custom_task_with_standard_and_custom_values": _OPTIONS,
    "CustomTaskTestCase.test_custom_task_invalid_kwarg": ("test_options_that_do_not_exist_are_refused",),
    # --- test_dummy_backend.py
    "DummyBackendTestCase.test_using_correct_backend": ("test_the_alias_leads_to_the_backend",),
    "DummyBackendTestCase.test_enqueue_task": _ENQUEUE,
    "DummyBackendTestCase.test_enqueue_task_async": _ENQUEUE_ASYNC,
    "DummyBackendTestCase.test_get_result": ("test_a_result_can_be_read_again",),
    "DummyBackendTestCase.test_get_result_async": ("test_a_result_can_be_read_again_async",),
    "DummyBackendTestCase.test_refresh_result": ("test_refreshing_sees_what_has_changed",),
    "DummyBackendTestCase.test_refresh_result_async": ("test_refreshing_sees_what_has_changed_async",),
    "DummyBackendTestCase.test_get_missing_result": (
        "test_a_missing_result_is_an_error",
        "test_a_result_that_is_not_there_is_an_error",
    ),
    "DummyBackendTestCase.test_enqueue_logs": ("test_an_enqueue_is_told_and_logged",),
    "DummyBackendTestCase.test_errors": _ENQUEUE,
    "DummyBackendTestCase.test_validate_disallowed_async_task": ("test_coroutine_functions_need_support",),
    "DummyBackendTestCase.test_check": ("test_its_checks_are_satisfied",),
    "DummyBackendTestCase.test_takes_context": ("test_a_task_that_takes_its_context_can_be_enqueued",),
    "DummyBackendTestCase.test_validate_on_enqueue": _VALIDATED,
    "DummyBackendTestCase.test_validate_on_aenqueue": _VALIDATED,
    "DummyBackendTransactionTestCase.test_doesnt_wait_until_transaction_commit_by_default": (
        "test_an_enqueue_does_not_wait_for_the_commit",
    ),
    # --- test_immediate_backend.py
    "ImmediateBackendTestCase.test_using_correct_backend": ("test_the_alias_leads_to_the_backend",),
    "ImmediateBackendTestCase.test_enqueue_task": (*_ENQUEUE, "test_a_task_that_returns_is_successful"),
    "ImmediateBackendTestCase.test_enqueue_task_async": (
        *_ENQUEUE_ASYNC,
        "test_a_task_that_returns_is_successful_async",
    ),
    "ImmediateBackendTestCase.test_catches_exception": _FAILS,
    "ImmediateBackendTestCase.test_throws_keyboard_interrupt": ("test_an_interrupt_is_passed_on_or_recorded",),
    "ImmediateBackendTestCase.test_complex_exception": ("test_an_exception_may_hold_anything",),
    "ImmediateBackendTestCase.test_complex_return_value": ("test_a_value_that_cannot_be_carried_fails_the_task",),
    "ImmediateBackendTestCase.test_result": ("test_the_value_comes_back",),
    "ImmediateBackendTestCase.test_result_async": ("test_the_value_comes_back_async",),
    "ImmediateBackendTestCase.test_cannot_get_result": ("test_without_support_reading_is_refused",),
    "ImmediateBackendTestCase.test_cannot_refresh_result": ("test_without_support_reading_is_refused",),
    "ImmediateBackendTestCase.test_cannot_pass_run_after": ("test_deferring_needs_support",),
    "ImmediateBackendTestCase.test_enqueue_logs": ("test_an_enqueue_is_told_and_logged", "test_a_run_is_logged"),
    "ImmediateBackendTestCase.test_failed_logs": ("test_a_run_is_logged",),
    "ImmediateBackendTestCase.test_successful_task_no_none_in_logs": ("test_a_run_is_logged",),
    "ImmediateBackendTestCase.test_takes_context": ("test_a_task_gets_its_context",),
    "ImmediateBackendTestCase.test_context": ("test_a_task_gets_its_context",),
    "ImmediateBackendTestCase.test_validate_on_enqueue": _VALIDATED,
    "ImmediateBackendTestCase.test_validate_on_aenqueue": _VALIDATED,
    "ImmediateBackendTransactionTestCase.test_doesnt_wait_until_transaction_commit_by_default": (
        "test_an_enqueue_does_not_wait_for_the_commit",
    ),
    # --- test_tasks.py
    "TaskTestCase.test_using_correct_backend": ("test_the_alias_leads_to_the_backend",),
    "TaskTestCase.test_task_decorator": ("test_a_decorated_function_is_a_task",),
    "TaskTestCase.test_enqueue_task": _ENQUEUE,
    "TaskTestCase.test_enqueue_task_async": _ENQUEUE_ASYNC,
    "TaskTestCase.test_enqueue_with_invalid_argument": ("test_arguments_that_cannot_be_carried_are_refused",),
    "TaskTestCase.test_aenqueue_with_invalid_argument": ("test_arguments_that_cannot_be_carried_are_refused_async",),
    "TaskTestCase.test_using_priority": _USING,
    "TaskTestCase.test_using_queue_name": _USING,
    "TaskTestCase.test_using_run_after": _USING,
    "TaskTestCase.test_using_unknown_backend": ("test_a_backend_that_is_not_configured_is_refused",),
    "TaskTestCase.test_using_missing_backend": ("test_a_backend_that_cannot_be_imported_is_refused",),
    "TaskTestCase.test_using_creates_new_instance": _USING,
    "TaskTestCase.test_chained_using": ("test_using_can_be_chained",),
    "TaskTestCase.test_refresh_result": ("test_refreshing_what_has_not_changed_changes_nothing",),
    "TaskTestCase.test_naive_datetime": ("test_due_times_are_aware",),
    "TaskTestCase.test_invalid_priority": ("test_priorities_are_whole_numbers_in_a_range",),
    "TaskTestCase.test_unknown_queue_name": ("test_queues_are_those_of_the_settings",),
    "TaskTestCase.test_call_task": ("test_tasks_can_be_called_directly",),
    "TaskTestCase.test_call_task_async": ("test_tasks_can_be_called_directly_async",),
    "TaskTestCase.test_call_async_task": ("test_tasks_can_be_called_directly_async",),
    "TaskTestCase.test_call_async_task_sync": ("test_tasks_can_be_called_directly",),
    "TaskTestCase.test_get_result": ("test_a_result_can_be_read_again",),
    "TaskTestCase.test_get_result_async": ("test_a_result_can_be_read_again_async",),
    "TaskTestCase.test_get_missing_result": (
        "test_a_missing_result_is_an_error",
        "test_a_result_that_is_not_there_is_an_error",
    ),
    "TaskTestCase.test_get_incorrect_result": ("test_a_result_of_another_task_is_an_error",),
    "TaskTestCase.test_get_incorrect_result_async": ("test_a_result_of_another_task_is_an_error_async",),
    "TaskTestCase.test_invalid_function": ("test_functions_that_cannot_be_found_are_refused",),
    "TaskTestCase.test_get_backend": ("test_the_alias_leads_to_the_backend",),
    "TaskTestCase.test_name": ("test_names_lead_back_to_the_task",),
    "TaskTestCase.test_module_path": ("test_names_lead_back_to_the_task",),
    "TaskTestCase.test_pickle_task": ("test_a_task_can_be_pickled",),
    "TaskTestCase.test_unpickle_arbitrary_string": ("test_a_task_can_be_pickled",),
    "TaskTestCase.test_unpickle_non_task_object": ("test_a_task_can_be_pickled",),
    "TaskTestCase.test_pickle_task_result": ("test_a_result_can_be_pickled",),
    "TaskTestCase.test_no_backends": ("test_without_backends_nothing_is_enqueued",),
    "TaskTestCase.test_task_error_invalid_exception": ("test_the_class_of_an_error_is_looked_up_with_care",),
    "TaskTestCase.test_task_error_unknown_module": ("test_the_class_of_an_error_is_looked_up_with_care",),
    "TaskTestCase.test_takes_context_without_taking_context": ("test_the_context_needs_its_parameter",),
    "TaskTestCase.test_run_after_in_decorator": ("test_the_due_time_is_no_option_of_the_decorator",),
}

LEFT_OUT: dict[str, str] = {
    "DummyBackendTestCase.test_clear": "clear() is a method of the dummy backend, and of no other.",
}

BESIDES: dict[str, str] = {
    "test_a_run_is_told": "Django tests its signals through the log lines that their receivers write.",
}
"""Tests of ``BackendConformance`` that no test of Django's corresponds to, and what they are there for."""
