"""Every knob of the edge worker, from environment variables ``SLUICE_EDGE_*``."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from services.common.codec import MAX_SPAN_TOKENS
from services.common.credentials import Credential
from services.common.energy.settings import EnergySettings
from services.common.kafka.link import KafkaSettings
from services.common.messages import Mode
from services.common.redis_client import RedisSettings
from services.common.settings import usable_cores
from services.common.tracing import TracedSettings
from services.edge_worker.answer import OnOutage
from services.edge_worker.signals import Importance, Signal


class EdgeSettings(KafkaSettings, RedisSettings, EnergySettings, TracedSettings):
    """Knobs of one edge worker. Values that contradict each other are refused."""

    model_config = SettingsConfigDict(env_prefix="SLUICE_EDGE_", extra="ignore", protected_namespaces=())

    # -- models
    preset: str = Field(
        default="smollm2-135m", description="the pair of models, where `draft` and `target` do not say otherwise"
    )
    draft: str = Field(
        default="",
        description="small model: preset side, Hugging Face id, folder, GGUF file, or `synthetic` (no model); empty: the "
        "preset's",
    )
    target: str = Field(
        default="", description="large model of the verifiers, for its name and tokenizer check; empty: the preset's"
    )
    dtype: str = Field(default="auto", description="number format of the draft model; auto: measured at start")
    weights: str = Field(default="auto", description="format of the draft's linear layers; auto: the fastest measured at start")
    device: str = Field(default="auto", description="torch device of the draft model")
    threads: int = Field(default_factory=usable_cores, ge=1, description="CPU threads of the draft model")
    synthetic_step_ms: float = Field(
        default=0.0, ge=0, description="`synthetic` draft only: milliseconds that a draft step takes, in each session by itself"
    )
    prefill_tokens: int = Field(default=256, ge=1, description="prompt tokens of one pass of the draft model")
    context_tokens: int = Field(default=2048, ge=16, description="most tokens of prompt and answer together")
    sessions: int = Field(default=4, ge=1, le=256, description="answers written at the same time; one more is refused with 429")

    # -- links
    worker: str = Field(
        default="",
        max_length=253,
        pattern=r"^[A-Za-z0-9._-]*$",
        description="name of this worker in its credential's group (above 16 characters a hash shortens it); empty: at random",
    )
    link_seconds: float = Field(default=2.0, gt=0, description="longest time that one message may take to reach the broker")
    host: str = Field(default="127.0.0.1", description="address that the HTTP API listens on")
    port: int = Field(default=8000, ge=0, le=65535, description="TCP port of the HTTP API; 0 picks a free one and logs it")
    model_name: str = Field(default="sluice", min_length=1, description="name of the model in the API")
    api_keys: list[SecretStr] = Field(
        default=[],
        description="keys that clients must show (any one), plain or as sha256:HEX; none and no file: open to all",
    )
    api_keys_file: Path | None = Field(
        default=None,
        description="file of hashed keys and owners (`sluice keys api`), read again when it changes; empty: nobody may ask",
    )

    credential: SecretStr = Field(
        default=SecretStr(""),
        validate_default=True,
        description="credential of this worker's group (`sluice keys worker GROUP` prints it), with which it signs; required",
    )

    # -- gate and rounds
    mode: Mode = Field(default=Mode.OPPORTUNISTIC, description="what an answer gets that does not ask for a mode")
    signal: Signal = Field(default=Signal.ONE_MINUS_MAX, description="uncertainty of the gate")
    tau_u: float | None = Field(
        default=None, ge=0, le=1, description="threshold of the signal; none: a safe default, uncalibrated"
    )
    calibration: Path | None = Field(
        default=None,
        description="file of `sluice calibrate`: sets the gate's signal and threshold and what answers promise; none: nothing",
    )
    alpha: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="which bound on the damage of that file holds; none: the only one in it. Without a file: the bound that "
        "the measured damage is held to, which promises nothing; none: it is only measured",
    )
    random_rate: float | None = Field(
        default=None, ge=0, le=1, description="baseline: flag tokens at random at this rate instead"
    )
    importance: Importance = Field(
        default=Importance.NONE,
        description="second condition of the gate, from attention: none; binding: how much a token leans on the text before; "
        "received: how much the next token leans on it, known one step later (not used in lossless mode: it sees the draft)",
    )
    importance_layer: int | None = Field(
        default=None, ge=0, description="layer of the draft model that importance is read from; none: the middle one"
    )
    importance_quantile: float = Field(
        default=0.5, ge=0, le=1, description="share of recent tokens that importance holds back at gamma 1"
    )
    importance_window: int = Field(default=64, ge=1, le=4096, description="tokens over which that share is taken")
    k: int = Field(default=4, ge=0, le=64, description="most candidates of one upload; 0: ask about nothing")
    gamma: float = Field(default=1.0, ge=0, le=10, description="strictness: 0 asks about every token, larger asks about fewer")
    k_max: int = Field(default=16, ge=1, le=64, description="largest k that a request may ask for")
    gamma_max: float = Field(default=4.0, ge=0, le=10, description="largest gamma that a request may ask for")
    x_entries: int = Field(
        default=32, ge=2, le=1024, description="entries of the draft distribution that is sampled from and sent"
    )
    span_tokens: int = Field(
        default=48,
        ge=1,
        le=MAX_SPAN_TOKENS,
        description="tokens since the last verdict at which an upload goes out, once there is a candidate; of a longer run of "
        f"skipped tokens before it {MAX_SPAN_TOKENS} at a time go ahead",
    )
    wait_tokens: int = Field(
        default=12, ge=1, description="tokens drafted after the first candidate before the upload goes out"
    )
    risk: float = Field(
        default=0.8, gt=0, le=1, description="upload once the estimated chance of a refused candidate reaches this"
    )
    ahead: bool = Field(
        default=True, description="draft on while a round is out; off where draft and verifier share their cores"
    )
    audit_rate: float = Field(
        default=0.02,
        ge=0,
        le=1,
        description="share of answers whose tokens without a verdict (with k = 0: all) are uploaded at their end, for audit",
    )
    device_class: str = Field(
        default="default",
        pattern=r"^[A-Za-z0-9_.-]{1,32}$",
        description="label of the devices like this one, whose damage is measured and told together",
    )
    follow_policy: bool = Field(
        default=True,
        description="go by the policy service's knobs, within k_max, gamma_max and the adaptive bound, where a request names "
        "none and has no seed of its own; off: only by the knobs set here",
    )
    adaptive: bool = Field(
        default=True,
        description="tighten the gate while the measured damage is above alpha; off: it is only told. Without alpha: no effect",
    )
    adaptive_step: float = Field(
        default=0.02,
        gt=0,
        le=1,
        description="how far gamma moves for an answer whose damage is 1 above or below alpha",
    )

    # -- what is watched
    token_seconds: float | None = Field(
        default=None,
        gt=0,
        description="objective: most seconds of drafting and waiting per token of an answer; tokens of slower answers are no "
        "goodput. None: every answer is in time",
    )
    trace_share: float = Field(
        default=1.0, ge=0, le=1, description="share of answers that are traced, where `otlp_endpoint` is set"
    )

    # -- outages
    deadline_seconds: float = Field(default=2.0, gt=0, le=600, description="longest wait for a verdict")
    deadline_max_seconds: float = Field(default=60.0, gt=0, le=600, description="longest deadline that a request may ask for")
    on_outage: OnOutage = Field(
        default=OnOutage.DEGRADE, description="opportunistic answers without a verdict: degrade, wait or error"
    )
    wait_seconds: float = Field(
        default=30.0, gt=0, description="lossless answers: longest wait for a verifier before the answer fails"
    )
    breaker_failures: int = Field(default=2, ge=1, description="lost rounds in a row that open the circuit breaker")
    breaker_pause_seconds: float = Field(
        default=1.0, gt=0, description="first pause of an open breaker; doubled at each failed probe"
    )
    breaker_pause_max_seconds: float = Field(default=15.0, gt=0, description="longest pause of an open breaker")
    drain_seconds: float = Field(default=20.0, gt=0, description="time that running answers get at SIGTERM")

    @field_validator("credential")
    @classmethod
    def _usable(cls, credential: SecretStr) -> SecretStr:
        if not credential.get_secret_value():
            raise ValueError("missing; the operator of the verifiers makes one with `sluice keys worker GROUP`")
        Credential.parse(credential.get_secret_value())
        return credential

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.mode is Mode.LOSSLESS and self.k == 0:
            raise ValueError("lossless mode needs k of at least 1: with k = 0 nothing is ever verified")
        if self.k > self.k_max:
            raise ValueError(f"k is {self.k}, above k_max {self.k_max}")
        if self.gamma > self.gamma_max:
            raise ValueError(f"gamma is {self.gamma}, above gamma_max {self.gamma_max}")
        if self.deadline_seconds > self.deadline_max_seconds:
            raise ValueError(
                f"deadline_seconds is {self.deadline_seconds}, above deadline_max_seconds {self.deadline_max_seconds}"
            )
        if self.importance is not Importance.NONE and self.random_rate is not None:
            raise ValueError("random_rate flags tokens at random and leaves no room for importance: set one of them")
        if self.importance is Importance.NONE and self.importance_layer is not None:
            raise ValueError("importance_layer is set, but importance is none")
        if self.random_rate is not None and self.alpha is not None:
            raise ValueError(
                "random_rate flags tokens at random, which no bound alpha on the damage can steer: set one of them"
            )
        for name in ("tau_u", "random_rate"):
            if self.calibration is not None and getattr(self, name) is not None:
                raise ValueError(f"{name} and calibration both say which tokens are flagged: set one of them")
        if self.span_tokens < self.k:
            raise ValueError(f"span_tokens is {self.span_tokens}: it cannot hold k = {self.k} candidates")
        return self
