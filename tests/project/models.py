"""One small model, so that a task can do something to the caller's own data."""

from django.db import models


class Mark(models.Model):
    """A trace that a task, or a caller, leaves in the project's database."""

    text = models.TextField()

    def __str__(self) -> str:
        return self.text
