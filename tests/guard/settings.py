"""The settings of ``tests.project``, with pages that stream."""

from tests.project.settings import *  # noqa: F403

ROOT_URLCONF = "tests.guard.views"
