"""Measured damage after deployment: per answer, its running mean against a bound, and the threshold that follows it. Pure."""
