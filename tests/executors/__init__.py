"""Tests of the slots that run bodies."""
