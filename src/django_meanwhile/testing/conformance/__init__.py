"""What a backend of ``django.tasks`` has to do, as tests that run on any backend.

For authors of backends (ours are two of those that pass it) and for projects that wrap one. A suite is a mixin::

    from django.test import TestCase
    from django_meanwhile.testing.conformance import BackendConformance

    class TestMyBackend(BackendConformance, TestCase):
        backend = "default"                 # the alias in TASKS

        def run_queued(self):
            my_worker.run_everything_that_is_due()

``BackendConformance``  the contract of Django: each behaviour that Django's own ``tests/tasks`` demand of a backend,
                        in our words (``coverage`` has the list); what a backend does not support is skipped
``QueueConformance``    what Django's documentation promises of queues and Django's tests leave out: priorities,
                        deferred tasks, transactions
``JobConformance``      what backends of django-meanwhile promise besides: cancel, retry, progress, batches

The attributes that describe a backend stand in ``base.Conformance``.
"""

from __future__ import annotations

from .declaring import DeclaringConformance
from .enqueueing import EnqueueingConformance
from .jobs import JobConformance
from .queues import QueueConformance
from .results import ResultConformance
from .running import RunningConformance

__all__ = ["BackendConformance", "JobConformance", "QueueConformance"]


class BackendConformance(DeclaringConformance, EnqueueingConformance, ResultConformance, RunningConformance):
    """The contract of Django. See the module."""
