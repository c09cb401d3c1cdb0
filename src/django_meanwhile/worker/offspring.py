"""A child as its supervisor sees it: the process, the pipe, the slot table.

Made and reaped by the supervisor's main thread. Other threads may read it, send
to it and call ``declare_lost``; they change nothing else.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from typing import IO, TYPE_CHECKING
from uuid import UUID, uuid4

from ..core.job import Run
from .channel import Message, Sender
from .sentinel import EXIT_FENCED
from .slots import Entry, Flag, SlotTable, capacity_for
from .verdict import Cause, Death

if TYPE_CHECKING:
    from ..core.clock import Clock
    from .plan import ChildPlan, WorkerPlan

_BOOT = (
    "import json, sys; s = json.loads(sys.argv[1]); sys.path[:] = s['path'];"
    "from django_meanwhile.worker.boot import main; main(s)"
)
DUMP_WITHIN = 0.5
"""Seconds that a process gets to write its stacks before it is killed."""

LOOK_EVERY, SETTLED_AFTER = 0.01, 5
"""Seconds between two looks at what it has written, and looks at the same text that mean that this is all of it: on a
busy machine it may have to wait for its turn in the middle."""

START_WITHIN = 60.0
"""Seconds that a child may take for importing the project before it must show a pulse."""

MAX_STACKS = 16 * 1024
"""Bytes of a stack dump that are kept."""


@dataclass(kw_only=True)
class Offspring:
    """See the module."""

    plan: ChildPlan
    worker_id: UUID
    process: subprocess.Popen[bytes]
    table: SlotTable
    sender: Sender
    stacks: IO[bytes]
    clock: Clock
    lease: float
    born: float
    #: Stopped by SIGSTOP or a debugger; the main thread keeps it current.
    is_stopped: bool = False
    #: Told to claim no more; killed at ``leave_by``.
    leave_by: float | None = None
    #: False while the order did not fit into a full pipe: it is given again.
    knows_that_it_leaves: bool = False
    interrupted: bool = False
    replaced: bool = False
    cause: Cause = Cause.ITSELF
    lost: bool = False
    #: Runs whose cancel is requested, and since when we know. Replaced whole, by the upkeep.
    told: dict[Run, float] = field(default_factory=dict)
    overdue: set[Run] = field(default_factory=set)
    cancelled: set[Run] = field(default_factory=set)

    @classmethod
    def spawn(
        cls,
        child: ChildPlan,
        plan: WorkerPlan,
        parent_id: UUID,
        clock: Clock,
        *,
        log_level: int,
        inherit: tuple[int, ...] = (),
    ) -> Offspring:
        """Start a child. From the main thread only: the kernel ties it to the forking thread.

        ``inherit`` are descriptors that it holds for as long as it lives.
        """
        table = SlotTable.create(capacity_for(child.slots))
        stacks = tempfile.TemporaryFile(prefix="meanwhile-stacks-")  # noqa: SIM115 - lives on
        reader, writer = os.pipe()
        worker_id = uuid4()
        specification = {
            "path": sys.path,
            "supervisor": os.getpid(),
            "worker_id": str(worker_id),
            "parent_id": str(parent_id),
            "pipe": reader,
            "table": table.fd,
            "stacks": stacks.fileno(),
            "child": asdict(child),
            "plan": asdict(plan),
            "log_level": log_level,
            "inherit": inherit,
        }
        warnings = [f"-W{option}" for option in sys.warnoptions]
        try:
            process = subprocess.Popen(  # noqa: S603 - our own interpreter, our own code
                [sys.executable, *warnings, "-c", _BOOT, json.dumps(specification)],
                pass_fds=(reader, table.fd, stacks.fileno(), *inherit),
                stdin=subprocess.DEVNULL,
            )
        finally:
            os.close(reader)
        return cls(
            plan=child,
            worker_id=worker_id,
            process=process,
            table=table,
            sender=Sender(writer),
            stacks=stacks,
            clock=clock,
            lease=plan.lease,
            born=clock.monotonic(),
        )

    # --- watching -----------------------------------------------------------------------

    def has_exited(self) -> bool:
        """Reap it if it is dead; note whether it is stopped."""
        if self.process.poll() is not None:
            return True
        if hasattr(os, "waitid"):
            options = os.WSTOPPED | os.WCONTINUED | os.WNOHANG
            try:
                while (seen := os.waitid(os.P_PID, self.process.pid, options)) is not None:
                    self.is_stopped = seen.si_code != os.CLD_CONTINUED
            except ChildProcessError:
                return self.process.poll() is not None
        return False

    @property
    def is_ready(self) -> bool:
        """Whether it has written its row."""
        return Flag.READY in self.table.flags

    def deserves_beat(self) -> bool:
        """Whether its lease is to be renewed: it runs, and has given a sign of life."""
        return self.is_ready and not (self.is_stopped or self.lost or self.is_hung())

    def is_hung(self) -> bool:
        """Whether it has given no sign of life for a whole lease; while it starts, for ``START_WITHIN`` at least.

        Once it has started, a child with one slot is never hung: its body may hold the GIL
        for as long as its timeout allows, and starves nobody.
        """
        if self.leave_by is not None:
            return False
        silent = self.clock.monotonic() - max(self.table.pulse, self.born)
        if not self.is_ready:  # a module of the project that hangs; while the database is away it has a pulse
            return silent > max(START_WITHIN, self.lease)
        return self.plan.kind == "shared" and silent > self.lease

    def declare_lost(self) -> None:
        """Say that its row is dead: it must end. Called by the beat."""
        self.lost = True

    # --- acting -------------------------------------------------------------------------

    def send(self, message: Message) -> bool:
        """See ``Sender.send``."""
        return self.sender.send(message)

    def cancel(self, runs: set[Run]) -> None:
        """Tell the bodies of ``runs`` to stop; they are all whose cancel is requested."""
        now = self.clock.monotonic()
        self.told = {run: self.told.get(run, now) for run in runs}
        for run in runs:
            self._stop_run(run, "Cancelled")

    def _stop_run(self, run: Run, reason: str) -> None:
        self.send({
            "op": "stop", "job": str(run.job_id), "epoch": run.epoch, "reason": reason,  # type: ignore[typeddict-item]
        })  # fmt: skip

    def leave(self, by: float) -> None:
        """Tell it to finish what it runs and end, at the latest at monotonic ``by``."""
        self.leave_by = by if self.leave_by is None else min(by, self.leave_by)
        self.knows_that_it_leaves = self.send({"op": "drain"})

    def kill(self, cause: Cause, *, dump: bool = False) -> None:
        """Kill it, its stacks dumped before if wished. ``has_exited`` sees the end."""
        if self.cause is not Cause.ITSELF:
            return
        self.cause = cause
        if dump and hasattr(signal, "SIGUSR1"):
            self.process.send_signal(signal.SIGUSR1)
            # faulthandler writes inside the signal handler; SIGKILL must not overtake it.
            # A stopped process never gets there, so the wait is short.
            end, size, same = self.clock.monotonic() + DUMP_WITHIN, 0, 0
            while self.clock.monotonic() < end and same < SETTLED_AFTER:
                before, size = size, self._dumped()
                same = same + 1 if size and size == before else 0
                time.sleep(LOOK_EVERY)
        self.process.kill()

    def _dumped(self) -> int:
        return os.fstat(self.stacks.fileno()).st_size

    def bury(self) -> Death:
        """Return what is known of its death, and free what it held."""
        status = self.process.returncode
        entries: tuple[Entry, ...] = tuple(self.table.entries())
        if self.cause is Cause.ITSELF:
            # A body may call os._exit() with any status: it must not pass for an end of ours.
            if status == 0 and not entries:
                self.cause = Cause.DRAINED
            elif status == EXIT_FENCED and self.clock.monotonic() >= self.table.fence:
                self.cause = Cause.FENCED
        self.stacks.seek(0)
        stacks = self.stacks.read(MAX_STACKS).decode("utf-8", "replace")
        self.stacks.close()
        self.sender.close()
        self.table.close()
        return Death(
            cause=self.cause,
            status=status,
            at=self.clock.monotonic(),
            entries=entries,
            stacks=stacks,
            overdue=frozenset(self.overdue),
            cancelled=frozenset(self.cancelled),
        )
