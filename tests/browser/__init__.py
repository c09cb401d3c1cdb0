"""The example site, clicked through in Chromium."""
