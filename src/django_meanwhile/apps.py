"""The app. Starts nothing by itself, but for the worker that a web server brings along (``embedded``)."""

from __future__ import annotations

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class MeanwhileConfig(AppConfig):
    """``"django_meanwhile"`` in ``INSTALLED_APPS``."""

    name = "django_meanwhile"
    label = "meanwhile"
    verbose_name = _("Background jobs")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Register the checks; guard connections, and bring a server's worker along, if it is wanted."""
        from . import checks, embedded, guard  # noqa: F401, PLC0415 - after the models are loaded

        guard.install()
        embedded.install()
