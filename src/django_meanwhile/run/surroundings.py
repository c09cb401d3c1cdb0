"""The enqueuer's language and time zone, captured and restored.

By name, because ``contextvars.copy_context()`` alone no longer carries them on
current asgiref, and because the body runs in another process anyway.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from django.utils import timezone, translation


@contextmanager
def restored(text: str) -> Iterator[None]:
    """Run the block under the language and time zone named in a job's ``context``."""
    context = json.loads(text)
    language, zone = context.get("language"), context.get("time_zone")
    with ExitStack() as stack:
        if language is not None:
            stack.enter_context(translation.override(language))
        if zone is not None:
            stack.enter_context(timezone.override(zone))
        yield
