"""Tests of projects that use the package."""
