"""The demo's one app: reports that take a while."""
