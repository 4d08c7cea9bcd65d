"""What metrics and traces cost: the same work with real meters and with meters that do nothing, in turn, in one process."""
