"""Tests of the ground floor: pure values and rules."""
