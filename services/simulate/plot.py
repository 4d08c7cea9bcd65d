"""The knobs over time, under what they hold down. Needs matplotlib."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from services.simulate import score as scoring
from services.simulate.report import Result
from services.simulate.sensors import quantile

WINDOW = scoring.WINDOW


def save(result: Result, path: Path) -> None:
    """One picture of one scenario. Raises ``OSError``."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    trace, names = result.trace, [c.name for c in result.scenario.classes]
    samples = trace.samples
    at = np.array([s.at for s in samples])
    figure, axes = plt.subplots(5, 1, figsize=(9, 11), sharex=True, constrained_layout=True)
    figure.suptitle(f"{result.scenario.name}: {result.scenario.about}")
    settings = np.stack([s.settings[0] for s in samples])
    for i, name in enumerate(names):
        axes[0].step(at, settings[:, i, 1], where="post", label=f"gamma, {name}")
        axes[1].step(at, settings[:, i, 0], where="post", label=f"k, {name}")
    later = range(WINDOW, len(samples))
    pairs = [(samples[i - WINDOW], samples[i]) for i in later]
    when = at[WINDOW:]
    busy = [float(b.busy[0] - a.busy[0]) / (b.at - a.at) / max(1, b.alive) for a, b in pairs]
    axes[2].plot(when, busy, label=f"utilisation of the verifiers ({WINDOW} s mean)")
    for i, name in enumerate(names):
        p95 = [quantile(0.95, (b.round_trips - a.round_trips)[0, i]) for a, b in pairs]
        axes[2].plot(when, p95, ":", label=f"round trip p95 in s, {name}")
        long = [(samples[max(0, j - scoring.DAMAGE_WINDOW)], samples[j]) for j in later]
        damage = [float((b.true_audit - a.true_audit)[0, i] / max(1.0, (b.answered - a.answered)[0, i])) for a, b in long]
        axes[3].plot(when, damage, label=f"damage, {name} ({scoring.DAMAGE_WINDOW} s mean)")
        tokens = [float((b.good - a.good)[0, i]) / (b.at - a.at) for a, b in pairs]
        axes[4].plot(when, tokens, label=f"goodput in tokens/s, {name}")
    budgets = [scoring.budgets_at(trace, t) for t in at]
    axes[2].plot(at, [b.utilisation or np.nan for b in budgets], "k--", linewidth=0.8, label="utilisation budget")
    axes[3].plot(at, [b.damage for b in budgets], "k--", linewidth=0.8, label="damage limit")
    for axis in axes:
        for event in result.scenario.events:
            axis.axvline(event.at, color="grey", linewidth=0.8)
        axis.legend(loc="best", fontsize="small")
        axis.set_ylim(bottom=0.0)
        axis.grid(alpha=0.3)
    axes[-1].set_xlabel("seconds")
    figure.savefig(path, dpi=110)
    plt.close(figure)
