"""What ``TASKS`` names: dotted paths, resolved when they are asked for, and nothing else.

``"BACKEND": "django_meanwhile.backends.DatabaseBackend"``
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .tasks.backend import DatabaseBackend

__all__ = ["DatabaseBackend"]


def __getattr__(name: str) -> Any:
    if name == "DatabaseBackend":
        from .tasks.backend import DatabaseBackend  # noqa: PLC0415 - the point of this module

        return DatabaseBackend
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)
