"""A module of tasks that no worker imports by itself, and whose import takes a while."""

import time

from django_meanwhile import TaskContext, task

time.sleep(2)  # what is tested is what happens meanwhile


@task(takes_context=True)
def listen_late(context: TaskContext) -> None:
    """Run until told to stop."""
    while True:
        context.raise_if_stopped()
        time.sleep(0.01)
