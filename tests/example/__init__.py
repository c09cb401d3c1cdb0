"""The example site, driven over HTTP."""
