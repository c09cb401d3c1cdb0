"""``manage.py serve``: the project on Granian, by the project's own settings.

::

    manage.py serve ── plan ── sockets ── Granian's main process
                                              │ its listening socket, an order; a pipe back
                                              ├──▶ server process: application ── project's code
                                              └──▶ ...

===========  ================================================================================
plan         flags over ``MEANWHILE["SERVER"]`` over defaults; which application is served
listening    the sockets, made before anything is started, one for each server process
main         the first process: starts Granian, hears its processes, heeds signals
server       Granian's server with our sockets; its private names that we use
application  what each server process runs: set up Django, wrap the application, watch
lifespan     the ASGI server's start and end, for applications that know neither
signals      one signal for each server process
trial        does the new code load? asked before it is served
reload       changed files: as runserver watches them
records      Granian's log records, in Python's logging
===========  ================================================================================

Called by the command ``serve``. Only this package imports Granian (the extra ``serve``), and only ``main``,
``server`` and ``signals`` do. It never runs a request in the first process.
"""
