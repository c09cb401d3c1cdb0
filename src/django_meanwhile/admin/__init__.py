"""Jobs and workers in Django's admin: read-only, but for the actions retry and cancel.

::

    jobs.py, workers.py     the two ModelAdmins
    listing.py              lists that stay fast with ten million rows; what both admins share
    filters.py              filters whose choices cost no query over jobs
    pages.py                values as HTML, escaped

Found by Django's own autodiscovery. Rows are changed by the verbs of ``store`` alone, which fence them.
"""

from __future__ import annotations

from .jobs import JobAdmin
from .workers import WorkerAdmin

__all__ = ["JobAdmin", "WorkerAdmin"]
