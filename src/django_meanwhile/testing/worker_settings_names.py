"""Two names that ``worker`` and ``worker_settings`` share; only the worker's processes can import the latter."""

ENVIRONMENT = "MEANWHILE_TESTING_WORKER"
SETTINGS = "django_meanwhile.testing.worker_settings"
