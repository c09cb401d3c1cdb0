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
"""
