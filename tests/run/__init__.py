"""Tests of one job becoming one outcome."""
