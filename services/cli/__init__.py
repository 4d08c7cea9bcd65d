"""The `sluice` command: the whole system on one machine, and clients of it."""
