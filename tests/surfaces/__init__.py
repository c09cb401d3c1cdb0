"""Commands, system checks, admin and logs: what people and probes see."""
