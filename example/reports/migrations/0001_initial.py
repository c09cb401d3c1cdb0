"""The tables, and the weather in them."""

from django.db import migrations, models


def load(apps, schema_editor):
    from reports.weather import bundled

    Observation = apps.get_model("reports", "Observation")
    Observation.objects.bulk_create([Observation(**row) for row in bundled()], batch_size=500)


class Migration(migrations.Migration):
    initial = True
    dependencies = []
    operations = [
        migrations.CreateModel(
            name="Observation",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("place", models.CharField(max_length=20)),
                ("day", models.DateField()),
                ("low", models.FloatField(help_text="degrees Celsius")),
                ("high", models.FloatField(help_text="degrees Celsius")),
                ("rain", models.FloatField(help_text="millimetres")),
            ],
            options={
                "constraints": [models.UniqueConstraint(fields=("place", "day"), name="one_observation_a_day")],
            },
        ),
        migrations.CreateModel(
            name="Ticket",
            fields=[
                ("job_id", models.UUIDField(primary_key=True, serialize=False)),
                ("visitor", models.CharField(db_index=True, max_length=32)),
                ("exhibit", models.SlugField()),
                ("created_at", models.DateTimeField(auto_now_add=True)),
            ],
            options={"ordering": ["-created_at"]},
        ),
        migrations.RunPython(load, migrations.RunPython.noop),
    ]
