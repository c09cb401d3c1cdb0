"""The test app's configuration."""

from django.apps import AppConfig


class ProjectConfig(AppConfig):
    """The app that holds the tests' model and tasks."""

    name = "tests.project"
    label = "project"
    default_auto_field = "django.db.models.BigAutoField"
