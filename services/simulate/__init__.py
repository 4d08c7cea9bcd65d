"""A simulator of the fleet that drives the very controller of the policy service. No models, no torch."""
