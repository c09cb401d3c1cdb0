"""Several calls that end together: ``parallel()``, ``aparallel()``, ``TaskGroup``."""
