"""The tasks that the tests in ``tests/tasks`` enqueue; listed in ``MEANWHILE["TASK_MODULES"]`` there."""
