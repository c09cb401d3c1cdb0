"""The tasks floor, inside pytest's own process: no worker runs here."""
