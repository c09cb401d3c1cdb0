"""The enqueuer's language and time zone, captured and restored.

By name, because ``contextvars.copy_context()`` alone no longer carries them on
current asgiref, and because the body runs in another process anyway.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from django.utils import timezone, translation

from ..core.errors import DecodingError


@contextmanager
def restored(text: str) -> Iterator[None]:
    """Run the block under the language and time zone named in a job's ``context``."""
    context = decode_names(text, "context")
    language, zone = context.get("language"), context.get("time_zone")
    with ExitStack() as stack:
        if language is not None:
            stack.enter_context(translation.override(language))
        if zone is not None:
            stack.enter_context(timezone.override(zone))
        yield


def decode_names(text: str, what: str) -> dict[str, Any]:
    """Return the dictionary that a job's ``context`` or ``overrides`` holds, or raise ``DecodingError``."""
    try:
        value = json.loads(text)
    except ValueError as error:
        raise DecodingError(f"The job's {what} cannot be read: {error}.") from error
    if not isinstance(value, dict):
        raise DecodingError(f"The job's {what} cannot be read: it is a {type(value).__name__}, not a dictionary.")
    return value
