"""The demo's strongest baseline: the target model alone, in one process, without HTTP, broker or Redis.

`python -m services.cli.llm_only JOB RESULT`: reads a description of the work, writes tokens and seconds of each answer.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

SLOT_TOKENS = 2048


def run(job: dict[str, Any]) -> list[dict[str, float]]:
    """One dict of ``tokens`` and ``seconds`` (prompt included, loading not) for each of the job's prompts."""
    os.environ["OMP_NUM_THREADS"] = str(job["threads"])  # read when torch is imported
    import torch

    from services.common.lm import loading
    from services.common.lm.engine import CausalEngine
    from services.common.sampling import Sampling
    from services.common.warp import distribution

    torch.set_num_threads(job["threads"])
    torch.manual_seed(job["seed"])
    loaded = loading.load(job["model"], role="target", threads=job["threads"])
    engine = CausalEngine(loaded.model, slots=1, capacity_tokens=SLOT_TOKENS)
    sampling = Sampling(temperature=job["temperature"])

    def write(prompt: list[int], max_tokens: int) -> int:
        ids, fed = list(prompt), 0
        while len(ids) - len(prompt) < max_tokens and not (len(ids) > len(prompt) and ids[-1] in loaded.end_ids):
            states = engine.hidden([0], [fed], [ids[fed:]])
            fed = len(ids)
            probabilities = distribution(engine.logits(states[0, -1:])[:, : loaded.vocabulary], sampling)
            ids.append(int(torch.multinomial(probabilities[0], 1)))
        return len(ids) - len(prompt)

    results = []
    write(_prompt(loaded.tokenizer, "Hello"), 8)  # warm
    for text in job["prompts"]:
        prompt = _prompt(loaded.tokenizer, text)
        started = time.monotonic()
        tokens = write(prompt, job["max_tokens"])
        results.append({"tokens": tokens, "seconds": time.monotonic() - started})
    return results


def _prompt(tokenizer: Any, text: str) -> list[int]:
    messages = [{"role": "user", "content": text}]
    return list(tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=True, return_dict=False))


def main() -> int:
    job, result = Path(sys.argv[1]), Path(sys.argv[2])
    result.write_text(json.dumps(run(json.loads(job.read_text()))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
