"""The migrations make the tables that the models describe, on every supported Django."""

import io

from django.apps import apps
from django.core.management import call_command
from django.db import connections

from tests.store.scene import on_sqlite


@on_sqlite
def test_no_change_of_the_models_is_without_a_migration(scene):
    """``makemigrations`` has nothing to add. It would exit with a status if it had."""
    said = io.StringIO()
    call_command("makemigrations", "meanwhile", check=True, dry_run=True, stdout=said)
    assert "No changes" in said.getvalue()


def test_the_indexes_are_there(scene):
    """By name, on every vendor: the plans in ``test_plans`` need them."""
    with connections[scene.alias].cursor() as cursor:
        found = {
            name
            for model in apps.get_app_config("meanwhile").get_models()
            for name in connections[scene.alias].introspection.get_constraints(cursor, model._meta.db_table)
        }
    expected = {"claim", "suspect", "due", "running", "prune", "lease", "attempt_once"}
    assert {f"meanwhile_{name}" for name in expected} <= found
