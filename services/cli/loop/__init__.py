"""`sluice loop`: the control loop closed on real processes and a real Prometheus, under a step of the load."""
