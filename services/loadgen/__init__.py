"""Open-loop load on edge workers: requests come when their time is due, whatever became of those before (no torch here)."""
