"""The `sluice` command: starts services, talks to them, measures them."""
