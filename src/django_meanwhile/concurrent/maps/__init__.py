"""``parallel_map()`` and its ``a`` twin: on threads, processes, interpreters and an event loop."""
