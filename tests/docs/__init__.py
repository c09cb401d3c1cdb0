"""The README and the pages of `docs/`, held against the code: their examples run, their tables are compared, their links resolve."""
