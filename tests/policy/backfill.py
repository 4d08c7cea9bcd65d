"""A real Prometheus that knows a past and a near future without having scraped anything: the same answers on any machine."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests.policy.prometheus import PrometheusServer, program

Page = Callable[[float], str]  # what a target shows so many seconds after its start
PAST_SECONDS, FUTURE_SECONDS = 120, 600


class BackfilledServer(PrometheusServer):
    """``jobs``: the pages of each job's targets, as if scraped every ``scrape_seconds``; instances are named ``JOB:NUMBER``.
    Use as a context manager."""

    def __init__(self, folder: Path, jobs: Mapping[str, Sequence[Page]], scrape_seconds: float) -> None:
        super().__init__(folder, {}, round(scrape_seconds * 1000))
        now = time.time()
        ticks = [
            now - PAST_SECONDS + n * scrape_seconds for n in range(round((PAST_SECONDS + FUTURE_SECONDS) / scrape_seconds))
        ]
        lines = [
            line
            for job, pages in jobs.items()
            for number, page in enumerate(pages)
            for at in ticks
            for line in _samples(page(at - ticks[0]), job, f"{job}:{number}", at)
        ]
        text = folder / "samples.om"
        text.write_text("\n".join([*sorted(lines, key=_family), "# EOF"]) + "\n")
        made = folder / "prometheus" / "data"
        promtool = [str(program().parent / "promtool"), "tsdb", "create-blocks-from", "openmetrics", str(text), str(made)]
        subprocess.run(promtool, check=True, capture_output=True)


def _samples(page: str, job: str, instance: str, at: float) -> list[str]:
    out = []
    for line in page.splitlines():
        series, _, value = line.rpartition(" ")
        name, _, labels = series.partition("{")
        own = [f'job="{job}"', f'instance="{instance}"', *([labels.rstrip("}")] if labels else [])]
        out.append(f"{name}{{{','.join(own)}}} {value} {at:.3f}")
    return out


def _family(line: str) -> str:
    """Metrics have to come together; those of one series stay in the order of time."""
    return line.partition("{")[0]
