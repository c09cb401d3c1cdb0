"""Where bodies run: pooled threads, an event loop, a main thread.

Each executor takes claimed jobs from its inbox, as many at a time as it has slots,
and hands every outcome to the ``Ledger`` it was given. None of them touches the
queue's tables.
"""
