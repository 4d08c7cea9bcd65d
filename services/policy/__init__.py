"""The policy service (no torch here)."""
