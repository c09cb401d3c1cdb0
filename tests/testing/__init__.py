"""Tests of ``django_meanwhile.testing``: what it promises to the tests of others."""
