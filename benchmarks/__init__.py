"""Throughput and latency, measured here and now: ``make bench``. A record, not a goal.

=============  =====================================================================
run            the command: which measures, on which databases, printed how
measure        takes them on one database, in a process of its own
place          one database, empty and warm, and the workers on it
raw            the same work by the bare driver, written by hand
enqueueing     measures: jobs put into the queue
claiming       measures: jobs taken out of it and finished, by the store alone
working        measures: jobs run by a real worker
figures        what a measure found: rounds, medians, ratios
report         the table
=============  =====================================================================

Inside a request, ``make bench-concurrent`` and ``make bench-leaks``:

=============  =====================================================================
concurrent     the command; ``inside`` takes its measures, in a project of its own
page           one page with eight slow queries, written in every way
overhead       calls that do nothing
computing      calls that compute, on the cores of this machine
leaks          the command; ``leaking`` counts, one process for each facility
facilities     a view for each facility, naive and ours
served         a request through WSGI or ASGI, without a server
sides          what was measured side by side, and its table
=============  =====================================================================
"""
