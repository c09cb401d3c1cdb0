"""``manage.py meanwhile``: one command, one module for each of its subcommands.

::

    commands/meanwhile.py     the command: parses, hands over, exits with the status
    subcommands/              worker · check · status · list · show · retry · cancel · prune
    backends.py               which backends of TASKS are ours, and is their database ready
    snapshot.py → diagnosis.py    what the queue looks like → what is wrong with it (pure)
    selection.py              which jobs a command line means
    listing.py, reasons.py    the newest of them; why a run did not succeed, in one line
    wording.py, bar.py        durations, times and tables in text; a progress bar

Nothing here imports a task's module, other than through the registry, and nothing is written but through ``store``.
"""
