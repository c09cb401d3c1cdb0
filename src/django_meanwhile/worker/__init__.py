"""Who runs the jobs: a supervisor, its children, and what each of them does.

::

    supervisor ── spawns ──▶ child ── claims, runs, finishes for itself
        │  beat: one UPDATE renews every child's lease
        │  upkeep: promote, sweep, settle the jobs of dead children, prune
        │  listener: wake-ups, passed on by pipe
        └─ slot table (shared memory): which run began, its deadline, its stop flag
"""
