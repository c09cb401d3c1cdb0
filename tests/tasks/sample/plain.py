"""Tasks made by Django's own decorator."""

import django

if django.VERSION >= (6, 0):
    from django.tasks import task as django_task
else:
    from django_tasks import task as django_task


@django_task
def plain(x: int) -> int:
    """A plain task on our backend."""
    return x
