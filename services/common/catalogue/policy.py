"""Metrics of the policy service. Pure."""

from __future__ import annotations

from services.common.catalogue.metric import OTHER, Label, Maker, Service
from services.common.catalogue.shared import DEVICE_CLASS

_MAKE = Maker((Service.POLICY,))
_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)

BUDGET = Label("budget", ("damage", "utilisation", "watts", "round_trip", "energy"))
SOURCE = Label("source", ("control", "hold", "safe", "override"))
FAILURE = Label("cause", ("timeout", "unreachable", "refused", "strange", OTHER))

K = _MAKE.gauge("policy_k", "tokens", "Most candidates of one upload, as decided", DEVICE_CLASS)
GAMMA = _MAKE.gauge("policy_gamma", "1", "Strictness of the gate, as decided", DEVICE_CLASS)
GAMMA_MAX = _MAKE.gauge("policy_gamma_max", "1", "Risk limit on gamma", DEVICE_CLASS)
INFEASIBLE = _MAKE.gauge(
    "policy_infeasible",
    "1",
    "1 for a budget that cannot be met together with those before it in the order of priority",
    DEVICE_CLASS,
    BUDGET,
)
LIMIT = _MAKE.gauge(
    "policy_budget",
    "1",
    "Budget as it is set: damage and utilisation as shares, watts, seconds of the round trip, joules a token; "
    "not there where none is set",
    BUDGET,
)
DEVICES = _MAKE.gauge(
    "policy_devices", "answers", "Answers being written, as the policy sees them; not there where it does not", DEVICE_CLASS
)
DECISIONS = _MAKE.counter("policy_decisions", "decisions", "Decisions by who chose", DEVICE_CLASS, SOURCE)
CHANGES = _MAKE.counter("policy_changes", "decisions", "Decisions that changed a knob", DEVICE_CLASS)
PRICE = _MAKE.gauge("policy_price", "1", "Price of the pool's load in log goodput")
LEADING = _MAKE.gauge("policy_leading", "1", "1 while this process holds the lease")
VERSION = _MAKE.gauge("policy_version", "1", "Version of the record last published")
INPUT_AGE = _MAKE.gauge("policy_input_age_seconds", "seconds", "Age of the oldest input of a class", DEVICE_CLASS)
LEFT_OUT = _MAKE.gauge(
    "policy_edges_left_out",
    "edges",
    "Edges whose figures do not count: they say many times what the median edge of their class does",
)
COLLECT = _MAKE.histogram("policy_collect_seconds", "seconds", "One collection", _SECONDS)
COLLECT_FAILURES = _MAKE.counter("policy_collect_failures", "collections", "Collections that failed", FAILURE)
