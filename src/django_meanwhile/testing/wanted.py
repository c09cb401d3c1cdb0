"""Does a job look as expected, and if none does: which comes nearest? Pure, apart from reading rows into values.

Called by ``enqueued``.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..core.codec import decode_arguments, encode_arguments
from ..core.errors import EncodingError
from ..core.states import JobState
from .errors import describe_call

if TYPE_CHECKING:
    from ..models import Job

MAX_SHOWN = 10
"""Jobs that a failure lists."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A job that is there."""

    id: str
    task: str
    args: list[Any]
    kwargs: dict[str, Any]
    queue: str
    priority: int
    state: str

    @classmethod
    def from_row(cls, row: Job) -> Seen:
        """Read a row."""
        args, kwargs = decode_arguments(row.arguments)
        state = JobState(row.state).name
        return cls(
            id=str(row.pk),
            task=row.task,
            args=args,
            kwargs=kwargs,
            queue=row.queue,
            priority=row.priority,
            state=state,
        )

    @classmethod
    def from_result(cls, result: Any) -> Seen:
        """Read what any backend's ``enqueue()`` returned."""
        task = result.task
        return cls(
            id=result.id,
            task=getattr(task, "registered_name", task.module_path),
            args=list(result.args),
            kwargs=dict(result.kwargs),
            queue=task.queue_name,
            priority=task.priority,
            state=getattr(result, "state", result.status).name,
        )

    def __str__(self) -> str:
        call = f"{self.task}{describe_call(self.args, self.kwargs)}"
        return f"{call}  queue {self.queue!r}, priority {self.priority}, {self.state}"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a test expects; None is not looked at."""

    names: frozenset[str]
    args: Sequence[Any] | None = None
    kwargs: Mapping[str, Any] | None = None
    queue: str | None = None
    priority: int | None = None

    def __post_init__(self) -> None:
        if isinstance(self.args, str | bytes) or not isinstance(self.args, Sequence | None):
            raise TypeError(f"args={self.args!r}: give a list or a tuple of the positional arguments, as in args=[7].")
        if not isinstance(self.kwargs, Mapping | None):
            raise TypeError(f'kwargs={self.kwargs!r}: give a dictionary, as in kwargs={{"name": "John"}}.')

    def matches(self, seen: Seen) -> bool:
        """Whether that job is as expected. The expected value stands left, so that it does the comparing."""
        return (
            seen.task in self.names
            and (self.args is None or _stored(self.args) == seen.args)
            and (self.kwargs is None or _stored_kwargs(self.kwargs) == seen.kwargs)
            and self.queue in (None, seen.queue)
            and self.priority in (None, seen.priority)
        )

    def distance(self, seen: Seen) -> tuple[bool, float]:
        """How far a job is from what is expected; least is nearest."""
        expected = describe_call(self.args or (), self.kwargs or {})
        likeness = difflib.SequenceMatcher(None, expected, describe_call(seen.args, seen.kwargs)).ratio()
        name = max(difflib.SequenceMatcher(None, one, seen.task).ratio() for one in self.names)
        return seen.task not in self.names, -(likeness + name)

    def __str__(self) -> str:
        given = {name: getattr(self, name) for name in ("args", "kwargs", "queue", "priority")}
        return ", ".join(
            [min(self.names), *(f"{name}={value!r}" for name, value in given.items() if value is not None)]
        )


def _stored(args: Sequence[Any]) -> list[Any]:
    """Return each value as a worker would get it; what cannot be stored (``mock.ANY``) as it is."""
    return [_one_stored(value) for value in args]


def _stored_kwargs(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _one_stored(value) for name, value in kwargs.items()}


def _one_stored(value: Any) -> Any:
    try:
        return decode_arguments(encode_arguments([value], {}, task="expected"))[0][0]
    except EncodingError:
        return value


def complaint(wanted: Wanted, seen: Sequence[Seen], found: Sequence[Seen], count: int | None, where: str) -> str:
    """Say what was expected, how many there were, and what there is, nearest first."""
    if count is None:
        first = f"No job is {where} as expected: {wanted}."
    else:
        expected = "no job" if count == 0 else "1 job" if count == 1 else f"{count} jobs"
        first = f"Expected {expected} {where}, found {len(found)}: {wanted}."
    if not seen:
        return f"{first}\nNo job of any task is {where}."
    nearest = sorted(seen, key=wanted.distance)
    matching = {one.id for one in found}
    lines = [f"  {'=' if one.id in matching else ' '} {one}" for one in nearest[:MAX_SHOWN]]
    if len(nearest) > MAX_SHOWN:
        lines.append(f"    ... and {len(nearest) - MAX_SHOWN} more")
    title = f"What is {where}, nearest first" + (" (= marks those that count):" if found else ":")
    return "\n".join([first, title, *lines])
