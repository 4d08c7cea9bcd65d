"""What edges and verifiers of known rates show to Prometheus."""

from __future__ import annotations

DEVICES = {"phone": 3.0, "board": 5.0}


def edge_page(device_class: str, seconds: float, size: float = 1.0) -> str:
    """Counters of an edge worker after ``seconds``: 100 tokens a second in 20 rounds of 0.1 s, ``size`` times."""
    n = seconds * size
    lines = [
        f'sluice_gamma_bound{{device_class="{device_class}"}} 0.9',
        f"sluice_sessions {DEVICES[device_class]}",
        f'sluice_tokens_total{{decision="skipped"}} {70 * n}',
        f'sluice_tokens_total{{decision="accepted"}} {30 * n}',
        f"sluice_rounds_total {20 * n}",
        f"sluice_draft_step_seconds_sum {4.4 * n}",
        f"sluice_draft_step_seconds_count {110 * n}",
        f"sluice_round_trip_seconds_sum {2 * n}",
        f"sluice_round_trip_seconds_count {20 * n}",
        f'sluice_round_trip_seconds_bucket{{le="0.1"}} {10 * n}',
        f'sluice_round_trip_seconds_bucket{{le="0.2"}} {20 * n}',
        f'sluice_round_trip_seconds_bucket{{le="+Inf"}} {20 * n}',
        f"sluice_round_queue_seconds_sum {0.2 * n}",
        f"sluice_round_queue_seconds_count {20 * n}",
        f"sluice_round_verify_seconds_sum {0.8 * n}",
        f"sluice_round_verify_seconds_count {20 * n}",
        f'sluice_energy_joules_total{{component="draft"}} {40 * n}',
        f'sluice_energy_joules_total{{component="wait"}} {10 * n}',
        f'sluice_energy_joules_total{{component="radio"}} {2 * n}',
        f'sluice_energy_joules_total{{component="idle"}} {1000 * n}',
        f'sluice_gate_score_bucket{{le="0.5"}} {80 * n}',
        f'sluice_gate_score_bucket{{le="1.0"}} {110 * n}',
        f'sluice_gate_score_bucket{{le="+Inf"}} {110 * n}',
        f'sluice_audited_score_tokens_total{{score="0.5"}} {70 * n}',
        f'sluice_audit_rejection_total{{score="0.5"}} {7 * n}',
        f'sluice_judged_score_tokens_total{{score="1"}} {25 * n}',
        f'sluice_refused_score_tokens_total{{score="1"}} {10 * n}',
    ]
    return "\n".join(lines) + "\n"


def verifier_page(seconds: float) -> str:
    return (
        f"sluice_partitions 2\nsluice_engine_busy_seconds_total {0.5 * seconds}\n"
        f'sluice_rounds_total{{status="ok"}} {999 * seconds}\n'  # another metric than the edges', under their name
        f'sluice_verdicts_total{{status="ok"}} {20 * seconds}\nsluice_verdicts_total{{status="expired"}} {7 * seconds}\n'
        f'sluice_energy_joules_total{{component="verify"}} {150 * seconds}\n'
        f'sluice_energy_joules_total{{component="prefill"}} {20 * seconds}\n'
        f'sluice_energy_joules_total{{component="idle"}} {30 * seconds}\n'
    )
