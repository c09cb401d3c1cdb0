"""A small Django project and app: what worker processes started by the tests serve."""
