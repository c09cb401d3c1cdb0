"""The settings of a worker that a test has started: the project's own, on the test's databases.

``DJANGO_SETTINGS_MODULE`` of the worker and of its children, so that none of them can reach any other database. Reads
what ``worker`` has put into the environment.
"""

import json
import os
from importlib import import_module
from typing import Any

from .worker_settings_names import ENVIRONMENT

_given = json.loads(os.environ[ENVIRONMENT])
_project = import_module(_given["settings"])
globals().update({name: getattr(_project, name) for name in dir(_project) if name.isupper()})
globals().update(_given["changed"])


def _elsewhere(database: dict[str, Any]) -> dict[str, Any]:
    """Keep an alias that has no test database away from the real one: of the same vendor, and of no use."""
    nowhere = ":memory:" if "sqlite3" in database["ENGINE"] else "meanwhile_no_test_database"
    return {**database, "NAME": nowhere}


DATABASES = {
    alias: {**database, **_given["databases"][alias]} if alias in _given["databases"] else _elsewhere(database)
    for alias, database in _project.DATABASES.items()
}
