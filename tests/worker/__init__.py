"""Tests of a worker's parts, inside pytest's own process."""
