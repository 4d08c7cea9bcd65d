"""Metrics that all services have. Pure."""

from __future__ import annotations

from services.common.catalogue.metric import Label, Maker, Service

_MAKE = Maker(tuple(Service))

# Verdicts that are no ``ok``, as edges and verifiers count them.
REFUSALS = ("expired", "stale_base", "context_lost", "tokenizer_mismatch", "overloaded", "invalid")
DEVICE_CLASS = Label("device_class", bound="one for each class of devices that the operator names; one on an edge worker")

COMPONENT = Label("component", ("draft", "radio", "wait", "verify", "prefill", "idle"))
SOURCE = Label("source", ("measured", "estimated"))
LINK = Label("link", ("kafka", "redis", "prometheus"))

LOOP_LAG = _MAKE.histogram(
    "loop_lag_seconds",
    "seconds",
    "How late the event loop wakes a sleeper",
    (0.001, 0.002, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5, 1.0),
)
LINK_UP = _MAKE.gauge("link_up", "1", "1 while the service's link to this part worked when last used, else 0", LINK)
ENERGY = Maker((Service.EDGE, Service.VERIFIER)).counter(
    "energy_joules",
    "joules",
    "Energy spent, by what it went to and how that is known; without samples where `ENERGY` is `off`",
    COMPONENT,
    SOURCE,
)
