"""Joules: what a meter measured where there is one, else what a power model says; which of the two is always told."""
