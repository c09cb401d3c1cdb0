"""Begins to watch connections when the site starts."""

from django.apps import AppConfig


class InsideConfig(AppConfig):
    name = "inside"

    def ready(self) -> None:
        """See `left`."""
        from . import left

        left.watch()
