"""The worlds that are explored: each as small as the faults that it is about allow.

One large world with every fault would say the same and take minutes; see `DEEP_WORLDS`.
"""

from __future__ import annotations

from .state import World
from .vocabulary import Excuse, Fault

PROMISED = tuple(fault for fault in Fault if fault is not Fault.CLOCK_AHEAD)
"""The faults that the protocol promises to bear."""


def once(*faults: Fault) -> tuple[tuple[Fault, int], ...]:
    """Return a budget in which each of these faults may strike once."""
    return tuple((fault, 1) for fault in faults)


WORLDS = {
    "calm": World(retries=1),
    "slow answers": World(retries=1, slow_answers=True),
    "lost answer": World(retries=1, faults=once(Fault.LOST_ANSWER)),
    "pause": World(faults=once(Fault.PAUSE)),
    "pause of a lone worker": World(workers=1, faults=once(Fault.PAUSE)),
    "stop for ever": World(faults=once(Fault.PAUSE), stopped_for_ever=True),
    "pause and clock back": World(faults=once(Fault.PAUSE, Fault.CLOCK_BACK)),
    "two sweepers": World(sweeps=2, faults=once(*PROMISED), total=1),
    "stall": World(faults=once(Fault.STALL)),
    "crash": World(faults=once(Fault.CRASH)),
    "condemned child": World(faults=once(Fault.CONDEMN)),
    "vanished row": World(faults=once(Fault.VANISH)),
    "lone worker, any two faults": World(workers=1, faults=once(*PROMISED), total=2),
    "any fault, then a retry": World(retries=1, faults=once(*PROMISED), total=1),
}
"""In each of these every invariant holds, with every guard in force."""

DEEP_WORLDS = {
    "any two faults": World(faults=once(*PROMISED), total=2),
    "two pauses": World(faults=((Fault.PAUSE, 2),)),
    "two sweepers, slow answers": World(sweeps=2, slow_answers=True, faults=once(*PROMISED), total=1),
    "any fault, slow answers, a retry": World(retries=1, slow_answers=True, faults=once(*PROMISED), total=1),
    "three workers": World(workers=3, faults=once(*PROMISED), total=1),
}
"""The same holds here, in a minute or two rather than in seconds."""

LIMITS = {
    "a paused body": World(faults=once(Fault.PAUSE), excuses=frozenset(Excuse) - {Excuse.PAUSED}),
    "a row deleted under a living worker": World(
        faults=once(Fault.VANISH), excuses=frozenset(Excuse) - {Excuse.ROW_GONE}
    ),
    "a database clock that steps ahead": World(faults=once(Fault.CLOCK_AHEAD)),
}
"""In these two bodies do overlap, whatever the guards: what the protocol cannot promise."""
