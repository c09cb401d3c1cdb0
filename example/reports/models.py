"""The weather, and who ordered what. The jobs themselves are in the tables of django-meanwhile."""

from __future__ import annotations

from django.db import models


class Observation(models.Model):
    """One day at one place; loaded from `data/weather.csv` by a migration."""

    place = models.CharField(max_length=20)
    day = models.DateField()
    low = models.FloatField(help_text="degrees Celsius")
    high = models.FloatField(help_text="degrees Celsius")
    rain = models.FloatField(help_text="millimetres")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["place", "day"], name="one_observation_a_day")]

    def __str__(self) -> str:
        return f"{self.place}, {self.day}"


class Ticket(models.Model):
    """A visitor's claim to a job. Written in the transaction that enqueues it: both are there, or neither."""

    job_id = models.UUIDField(primary_key=True)
    visitor = models.CharField(max_length=32, db_index=True)
    exhibit = models.SlugField()
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return f"{self.exhibit} {self.job_id}"
