"""The demo's measurements on a running stack."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import httpx

from services.cli import scrape
from services.cli.client import ApiClient
from services.cli.demo_report import Report, Timed
from services.cli.errors import CommandError
from services.cli.local import environment
from services.cli.local.options import default_threads
from services.cli.local.stack import Stack
from services.cli.progress import Progress
from services.common.catalogue import edge, shared
from services.common.lm import presets

UPLINK = edge.UPLINK_BYTES.series
LAG = shared.LOOP_LAG.series
UPLINK_SAMPLE_SECONDS = 1.2  # the edge worker reads its sockets' counters once a second
# Far above any round of these models: only a dead verifier, not a busy machine, makes tokens unverified.
DEADLINE_SECONDS = 10.0
OUTAGE_DEADLINE_SECONDS = 1.0
RECOVERY_SECONDS = 60.0
LLM_ONLY_SECONDS = 600.0

Show = Callable[[str, str], None]


@dataclass(frozen=True)
class Asking:
    """What all answers of a demo have in common."""

    max_tokens: int
    temperature: float
    seed: int


class DemoRun:
    """Raises ``CommandError`` where an answer fails. ``progress`` is cleared before tokens are shown."""

    def __init__(self, stack: Stack, asking: Asking, progress: Progress) -> None:
        self.progress = progress
        self._stack = stack
        self._asking = asking
        self._client = ApiClient(stack.url)
        self._answers: list[Timed] = []
        self._slm_only: list[Timed] = []
        self._llm_only: list[Timed] = []
        self._outage: dict[str, Any] = {}
        self._before: dict[str, str] = {}
        self._after: dict[str, str] = {}
        self._uplink_after = ""

    def warm_up(self) -> None:
        """One short answer by each path that is not counted; then the first scrape."""
        self.progress("warming up")
        self._answer("Hello", max_tokens=8)
        self._answer("Hello", max_tokens=8, sluice={"k": 0})
        time.sleep(UPLINK_SAMPLE_SECONDS)
        self._before = self._scrape()

    def ask(self, prompt: str, show: Show) -> Timed:
        """One answer of the demo."""
        answer = self._answer(prompt, show)
        self._answers.append(answer)
        self._after = self._scrape()
        return answer

    def end_answers(self) -> None:
        """After the last ``ask``: the bytes of the last moment are counted before anything else is sent."""
        time.sleep(UPLINK_SAMPLE_SECONDS)
        self._uplink_after = self._client.metrics()

    def measure_baselines(self, prompts: Sequence[str]) -> None:
        """The same prompts by the small model alone, then by the large one alone while nothing else runs."""
        for number, prompt in enumerate(prompts, 1):
            self.progress(f"SLM only: answer {number} of {len(prompts)}")
            self._slm_only.append(self._answer(prompt, sluice={"k": 0}))
        self.progress("LLM only: loading the model")
        self._llm_only = self._bare_llm(prompts)

    def answer_without_verifiers(self, prompt: str, show: Show) -> Timed:
        self._stack.stop_verifiers()
        answer = self._answer(prompt, show, sluice={"deadline": OUTAGE_DEADLINE_SECONDS})
        self._outage |= {"tokens": answer.summary["tokens"], "degraded": answer.summary.get("degraded")}
        return answer

    def start_verifiers(self) -> None:
        self._stack.start_verifiers()

    def answer_until_verified(self, prompt: str, show: Show, say_again: Callable[[], None]) -> Timed:
        """Asks until an answer is verified: the circuit breaker may need a moment to notice that the verifiers are back."""
        started = time.monotonic()
        while True:
            answer = self._answer(prompt, show)
            if answer.summary["judged"]:
                break
            if time.monotonic() - started > RECOVERY_SECONDS:
                raise CommandError(f"no answer was verified within {RECOVERY_SECONDS:.0f} s after the verifiers came back")
            say_again()
            time.sleep(0.5)
        self._outage |= {
            "recovered": True,
            "recovery_seconds": round(time.monotonic() - started - answer.seconds, 3),
            "tokens_after": answer.summary["tokens"],
        }
        return answer

    def close(self) -> None:
        self._client.close()

    def report(self, leftover_processes: int = 0) -> Report:
        sent, source = self._uplink()
        return Report(
            answers=self._answers,
            slm_only=self._slm_only,
            llm_only=self._llm_only,
            uplink_bytes=sent,
            uplink_source=source,
            lag_p99_seconds=self._lag(),
            outage=self._outage,
            leftover_processes=leftover_processes,
        )

    # -- inside

    def _answer(self, prompt: str, show: Show = lambda _text, _decision: None, **body: Any) -> Timed:
        self._stack.nursery.check()
        asked: dict[str, Any] = {**asdict(self._asking), "sluice": {"deadline": DEADLINE_SECONDS}}
        messages = [{"role": "user", "content": prompt}]
        self._client.model()  # known before the clock starts
        started = time.monotonic()
        reply = self._client.chat(messages, show, **(asked | body))
        seconds = time.monotonic() - started
        if "tokens" not in reply.summary:
            raise CommandError("the edge worker's answer ended without an account of its tokens")
        return Timed(reply.summary, reply.tokens, seconds)

    def _bare_llm(self, prompts: Sequence[str]) -> list[Timed]:
        nursery, options = self._stack.nursery, self._stack.options
        job, output = nursery.folder / "llm-only.json", nursery.folder / "llm-only.result.json"
        description = {
            "model": environment.target(options) or presets.preset(presets.DEFAULT).target,
            "threads": options.threads or default_threads(1),
            "prompts": list(prompts),
            "max_tokens": self._asking.max_tokens,
            "temperature": self._asking.temperature,
            "seed": self._asking.seed,
        }
        job.write_text(json.dumps(description))
        child = nursery.start("LLM only", [sys.executable, "-m", "services.cli.llm_only", str(job), str(output)])
        if not child.wait(LLM_ONLY_SECONDS) or child.exit_status() != 0:
            raise CommandError(child.describe_death())
        nursery.end(child.name)
        return [Timed({}, answer["tokens"], answer["seconds"]) for answer in json.loads(output.read_text())]

    def _scrape(self) -> dict[str, str]:
        """Metrics by URL. The edge worker's come first."""
        texts = {self._stack.url: self._client.metrics()}
        try:
            for url in self._stack.verifier_urls:
                texts[url] = httpx.get(f"{url}/metrics", trust_env=False).text
        except httpx.HTTPError as error:
            raise CommandError(f"a verifier does not tell its metrics: {error}") from error
        return texts

    def _uplink(self) -> tuple[int, str]:
        texts = self._before[self._stack.url], self._uplink_after
        counts = [scrape.counter(text, UPLINK, channel="metrics") for text in texts]  # not what is asked for here
        if counts[0] is None or counts[1] is None or counts[1] <= counts[0]:
            payload = sum(int(answer.summary["uplink_payload_bytes"]) for answer in self._answers)
            return payload, "message payloads; this system does not count socket bytes"
        return round(counts[1] - counts[0]), "written to the sockets of Kafka and Redis"

    def _lag(self) -> dict[str, float | None]:
        """While the answers were written; of the verifiers, the slower one."""
        lags: dict[str, list[float]] = {"edge_worker": [], "verifier": []}
        for url, text in self._after.items():
            seen = scrape.between(scrape.buckets(self._before.get(url, ""), LAG), scrape.buckets(text, LAG))
            value = scrape.quantile(seen, 0.99)
            if value is not None:
                lags["edge_worker" if url == self._stack.url else "verifier"].append(round(value, 6))
        return {name: max(values, default=None) for name, values in lags.items()}
