"""No pages yet."""

from typing import Any

urlpatterns: list[Any] = []
