"""The closed vocabularies of the model: what may guard, fail, fall, and excuse.

`Guard` is the list of rules that the protocol consists of. Each can be dropped, one at a time;
`test_protocol` shows what goes wrong without it.
"""

from __future__ import annotations

from enum import StrEnum, auto


class Guard(StrEnum):
    """One rule of the protocol; the comment says what happens when it is dropped."""

    # -- the claim
    CLAIM_READY_ONLY = auto()  # dropped: any job is claimed, whatever its state
    CLAIM_LOCKS_JOB = auto()  # dropped: two claims pick the same row by snapshot
    CLAIM_RAISES_EPOCH = auto()  # dropped: two runs share an epoch
    CLAIM_ROW_EXISTS = auto()  # dropped: a worker without a row may claim
    CLAIM_WORKER_NOT_DEAD = auto()  # dropped: only the lease is asked
    CLAIM_LEASE_UNEXPIRED = auto()  # dropped: only the mark of death is asked
    CLAIM_SHARES_WORKER_ROW = auto()  # dropped: no FOR SHARE, an uncommitted kill is not seen
    CLAIM_COMMITS_ALONE = auto()  # dropped: the client must be there to send COMMIT
    BEGIN_ONLY_UNFENCED = auto()  # dropped: a late answer starts a body in a fenced worker
    BEGIN_UNDER_OWN_ID = auto()  # dropped: … in a worker that has come back under a new id
    # -- the finish
    FINISH_BY_EPOCH = auto()  # dropped: the owner's id is compared instead
    FINISH_RUNNING_ONLY = auto()  # dropped: the epoch alone is compared
    FINISH_SENT_AGAIN = auto()  # dropped: after a lost answer the row is only read
    FINISH_READS_AGAIN = auto()  # dropped: zero rows after a lost answer mean "lost"
    READ_AGAIN_BY_ATTEMPT = auto()  # dropped: the job's present row is believed
    # -- the lease
    RENEW_NOT_DEAD = auto()  # dropped: a dead row's lease is renewed
    RENEW_NEVER_INSERTS = auto()  # dropped: a renewal puts a missing row back
    BEAT_FOR_THE_MOVING = auto()  # dropped: the supervisor beats for a stopped child
    FENCE_BEFORE_LEASE_ENDS = auto()  # dropped: time passes over a worker without a lease
    FENCE_FROM_SENDING = auto()  # dropped: the deadline counts from the answer
    REJOIN_UNDER_NEW_ID = auto()  # dropped: the old row is revived
    # -- the rescue
    KILL_EXPIRED_ONLY = auto()  # dropped: any worker can be declared dead
    SWEEP_DEAD_ONLY = auto()  # dropped: the jobs of the merely expired are orphans, too
    SWEEP_MISSING = auto()  # dropped: a job whose worker has no row is no orphan
    SWEEP_TWO_STATEMENTS = auto()  # dropped: one statement; the recheck sees the job row alone
    RELEASE_BY_EPOCH = auto()  # dropped: released by id and RUNNING
    RELEASE_RUNNING_ONLY = auto()  # dropped: released by id and epoch
    RELEASE_CLEARS_WORKER = auto()  # dropped: READY with a worker, which the row's check refuses
    RELEASE_KEEPS_EPOCH = auto()  # dropped: giving back also takes the epoch back
    RESCUE_AFTER_DEATH = auto()  # dropped: the supervisor releases when it has sent SIGKILL


class Invariant(StrEnum):
    """What must hold in every reachable state."""

    ONE_OUTCOME = auto()
    """A run gets one verdict (done, retried or released), and a job that is done stays done."""
    CURRENT_EPOCH = auto()
    """A finish is accepted only from the run that owns the job now."""
    NO_OVERLAP = auto()
    """Two bodies of a job never run at once, unless one of them is excused (see `Excuse`)."""
    NO_THEFT = auto()
    """No run is taken from a worker whose row is not dead and whose lease has not ended."""
    TRUE_REPORT = auto()
    """A worker takes its verdict for recorded exactly if the database has it, or ever will."""
    DONE_REACHABLE = auto()
    """Wherever faults stop, DONE can still be reached. The checker's trap, not a state's flaw."""


class Excuse(StrEnum):
    """Why a body may overlap with another: something that no lease can rule out."""

    PAUSED = auto()
    """Its worker was stopped after it had sent the claim (SIGSTOP, a suspended machine)."""
    ROW_GONE = auto()
    """Its worker's row was deleted while the worker lived: a missing row has no lease to await."""


class Fault(StrEnum):
    """What the world may do to the protocol, each a bounded number of times."""

    PAUSE = auto()
    """A worker stops moving; its clock goes on."""
    CRASH = auto()
    """A child dies; its supervisor sees it."""
    CONDEMN = auto()
    """A supervisor sends SIGKILL; the child goes on until it is really dead."""
    LOSE = auto()
    """A host is gone with everything on it."""
    STALL = auto()
    """A worker's beats do not come through in time, so it fences itself."""
    LOST_ANSWER = auto()
    """The answer to a finish is lost, before or after the statement ran."""
    VANISH = auto()
    """A worker's row is deleted."""
    CLOCK_BACK = auto()
    """The database's clock steps back by a tick (NTP, a failover)."""
    CLOCK_AHEAD = auto()
    """The database's clock steps ahead by a tick; beyond what the protocol promises to bear."""


class Action(StrEnum):
    """Every step that is not a fault, as a counter-example calls it."""

    TICK = auto()
    WAKE = auto()
    REJOIN = auto()
    DIE = "is dead"
    # -- the lease
    RENEW = "sends renewal"
    RENEWED = "is renewed"
    FENCE_TOLD = "fences, told dead"
    FENCE_OVERDUE = "fences, overdue"
    KILL = "kills"
    KILL_COMMIT = "kill commits"
    # -- the run
    CLAIM = "claims"
    CLAIM_COMMIT = "claim commits"
    CLAIM_DISCARD = "discards claim"
    BEGIN = "body begins"
    END = "body ends"
    FINISH = "finish is written"
    FINISH_STRAY = "stray finish is written"
    REPORT_RECORDED = "reports recorded"
    REPORT_LOST = "reports lost"
    # -- the rescue
    SELECT_ORPHAN = "selects orphan"
    SELECT_OWN = "selects own job"
    RELEASE = "releases"


class JobState(StrEnum):
    """The states of a job that matter here; DONE stands for every terminal state."""

    READY = auto()
    RUNNING = auto()
    DONE = auto()


class Verdict(StrEnum):
    """How a run ends in the database."""

    OK = auto()
    ERROR = auto()  # a retry while there is one left, else DONE
    RELEASED = auto()


class Status(StrEnum):
    """What a worker's process is doing."""

    UP = auto()
    PAUSED = auto()
    DYING = auto()  # SIGKILL is sent, the body still runs
    DEAD = auto()  # its supervisor knows
    GONE = auto()  # nobody is left to know
    FENCED = auto()  # it has ended its bodies and gives back what it can
