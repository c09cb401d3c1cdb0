"""What a worker will start: the one value that the command, ``check`` and the supervisor share.

Computed from the settings and the command's flags, without touching a database.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from django.db import router

from ..compat import DEFAULT_TASK_BACKEND_ALIAS, task_backends
from ..conf import Settings
from ..core.states import Executor

ChildKind = Literal["shared", "process", "solo"]

SUPERVISOR_CONNECTIONS = 4
"""The beat, the upkeep, the listener, and receivers of signals about outcomes written there."""

SERVICE_CONNECTIONS = 2
"""In each child: claims and finishes share one; receivers of signals have one."""


MAX_SOLOS = 2
"""Suspects that a worker runs alone at once, each in a child of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerPlan:
    """A worker: one supervisor and its children. Durations are seconds.

    ``queues`` empty means every queue. ``drain`` ends the worker once nothing is
    due. ``max_tasks`` recycles a child after that many runs. ``grace`` is what running
    jobs have when their child is replaced, ``end_grace`` when the whole worker ends.
    """

    backend: str
    database: str
    queues: tuple[str, ...]
    threads: int
    coroutines: int
    processes: int
    max_tasks: int | None
    drain: bool
    lease: float
    beat: float
    sweep: float
    poll: float
    grace: float
    end_grace: float
    stop_grace: float
    margin: float

    @property
    def children(self) -> list[ChildPlan]:
        """The children that live as long as the worker does."""
        plans = []
        if self.threads or self.coroutines:
            plans.append(ChildPlan(kind="shared", threads=self.threads, coroutines=self.coroutines))
        plans += [ChildPlan(kind="process") for _ in range(self.processes)]
        return plans

    @property
    def executors(self) -> tuple[Executor, ...]:
        """The executors that this worker serves."""
        served = (
            (Executor.THREAD, self.threads),
            (Executor.ASYNCIO, self.coroutines),
            (Executor.PROCESS, self.processes),
        )
        return tuple(executor for executor, slots in served if slots)

    @property
    def connections(self) -> int:
        """The most database connections that this worker keeps to its own database.

        Each slot that has run a query keeps its connection; coroutines share one.
        """
        return SUPERVISOR_CONNECTIONS + sum(child.connections for child in self.children)

    @property
    def peak_connections(self) -> int:
        """The same while suspects run alone, and while leaving children live beside their successors.

        Without ``max_tasks`` only a child of threads is ever told to leave: for its slots that were written off.
        """
        leaving = [child for child in self.children if self.max_tasks or child.kind == "shared"]
        solos = MAX_SOLOS * ChildPlan(kind="solo").connections
        return self.connections + solos + sum(child.connections for child in leaving)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildPlan:
    """A child: ``shared`` has threads and an event loop, ``process`` one slot in its main thread.

    ``solo`` runs one suspect, whatever its executor, and ends.
    """

    kind: ChildKind
    threads: int = 0
    coroutines: int = 0

    @property
    def executors(self) -> tuple[Executor, ...]:
        """What it claims."""
        if self.kind == "process":
            return (Executor.PROCESS,)
        if self.kind == "solo":
            return tuple(Executor)
        served = ((Executor.THREAD, self.threads), (Executor.ASYNCIO, self.coroutines))
        return tuple(executor for executor, slots in served if slots)

    @property
    def slots(self) -> int:
        """How many bodies can run at once."""
        return self.threads + self.coroutines if self.kind == "shared" else 1

    @property
    def bodies(self) -> int:
        """The connections that bodies keep to a database: each slot one, coroutines one together."""
        return self.threads + bool(self.coroutines) if self.kind == "shared" else 1

    @property
    def connections(self) -> int:
        """See ``WorkerPlan.connections``."""
        return SERVICE_CONNECTIONS + self.bodies

    def as_dict(self) -> dict[str, Any]:
        """Return what JSON can carry to the child."""
        return asdict(self)


def make_plan(settings: Settings, *, backend: str = DEFAULT_TASK_BACKEND_ALIAS, **flags: Any) -> WorkerPlan:
    """Return the plan for ``settings`` with the command's ``flags`` over them (None: not given).

    Flags: threads, coroutines, processes, queues, max_tasks, drain, lease, grace.
    Raises ``InvalidTaskBackend`` for an unknown backend alias.
    """
    from ..models import Job  # noqa: PLC0415 - the apps are ready by the time a plan is made

    given = {key: value for key, value in flags.items() if value is not None}
    worker = settings.worker
    lease = given.get("lease", settings.lease)
    options = task_backends[backend].options
    beat, sweep = settings.beat, settings.sweep
    if "lease" in given:
        beat, sweep = min(beat, lease / 3), min(sweep, lease / 4)
    return WorkerPlan(
        backend=backend,
        database=options.get("DATABASE") or router.db_for_write(Job),
        queues=tuple(given.get("queues", worker.queues)),
        threads=given.get("threads", worker.threads),
        coroutines=given.get("coroutines", worker.coroutines),
        processes=given.get("processes", worker.processes),
        max_tasks=given.get("max_tasks", worker.max_tasks),
        drain=given.get("drain", False),
        lease=lease,
        beat=beat,
        sweep=sweep,
        poll=settings.poll,
        grace=given.get("grace", settings.grace),
        end_grace=given.get("grace", settings.grace),
        stop_grace=settings.stop_grace,
        margin=lease / 5,
    )
