"""The worker that a web server brings along, with real servers."""
