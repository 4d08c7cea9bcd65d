"""Every knob of a verifier: environment variables with the prefix ``SLUICE_VERIFIER_``."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from services.common.codec import MAX_SPAN_TOKENS
from services.common.credentials import parse_masters, parse_revoked
from services.common.energy.settings import EnergySettings
from services.common.kafka.embedded import FETCH_MAX_WAIT_MS
from services.common.kafka.link import KafkaSettings
from services.common.keys import VERIFIER_GROUP
from services.common.messages import MAX_MESSAGE_BYTES
from services.common.redis_client import RedisSettings
from services.common.settings import usable_cores
from services.common.tracing import TracedSettings
from services.verifier.fairness import parse_weights


class VerifierSettings(KafkaSettings, RedisSettings, EnergySettings, TracedSettings):
    """Built in ``__main__`` and passed down. Contradictory values are refused."""

    model_config = SettingsConfigDict(env_prefix="SLUICE_VERIFIER_", extra="ignore")

    # The target model
    model: str = Field(
        default="smollm2-135m",
        min_length=1,
        description="target model: a preset, a Hugging Face id, a local folder, a GGUF file, or `synthetic` (no model)",
    )
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto", description="type of weights and cache; float32 makes greedy answers equal those of any other machine"
    )
    weights: str = Field(default="auto", description="format of the linear layers: speed against memory; `auto` measures")
    device: str = Field(default="auto", description="torch device that holds model and cache: `cpu`, `cuda:0` or `auto`")
    threads: int = Field(
        default=0, ge=0, le=1024, description="CPU threads of a forward pass; 0: the cores this process may use"
    )
    engine_niceness: int = Field(
        default=5,
        ge=0,
        le=19,
        description="niceness added to the engine's threads once the model is loaded: the event loop goes first",
    )

    synthetic_pass_ms: float = Field(
        default=0.0, ge=0, le=60_000, description="`synthetic` target only: milliseconds that a pass takes"
    )
    synthetic_token_ms: float = Field(
        default=0.0, ge=0, le=1_000, description="`synthetic` target only: milliseconds that each token fed adds to its pass"
    )
    synthetic_trace: str = Field(
        default="", description="`synthetic` target only: file that gets a line at the begin and at the end of each pass"
    )

    # Its cache
    slots: int = Field(default=8, ge=1, le=4096, description="sessions held in the cache; more: fewer rebuilds, more memory")
    capacity_tokens: int = Field(
        default=2048,
        gt=MAX_SPAN_TOKENS,
        description="prompt, answer and span of one session, in tokens; bounds the memory of a slot",
    )

    # Batches
    max_batch_sessions: int = Field(default=8, ge=1, description="sessions in one pass; more: throughput; fewer: latency")
    batch_tokens: int = Field(
        default=512, ge=1, description="tokens in one forward pass over spans: bounds its time; tenants share it"
    )
    prefill_chunk_tokens: int = Field(
        default=128, ge=1, description="prefix tokens in one pass of their own; smaller: a long prompt delays others less"
    )
    tenant_weights: str = Field(
        default="", description="shares of passes under load, such as `acme=2,test=0.5`; a tenant that is not named has 1"
    )
    class_weights: str = Field(
        default="", description="the same between the device classes of one tenant, such as `interactive=4,batch=1`"
    )

    # Kafka
    group_id: str = Field(default=VERIFIER_GROUP, min_length=1, description="consumer group; verifiers of one pool share it")
    fetch_max_wait_ms: int | None = Field(
        default=None, ge=1, le=30_000, description="milliseconds a broker may hold an empty fetch; default 500, embedded 2"
    )
    fetch_bytes: int = Field(
        default=256 * 1024, ge=1024, description="bytes fetched of one partition at a time; small: no partition starves another"
    )
    session_timeout_ms: int = Field(
        default=10_000,
        ge=1_000,
        description="milliseconds without a heartbeat until a dead verifier's partitions move; brokers demand 6000 or more "
        "(their `group.min.session.timeout.ms`)",
    )
    heartbeat_ms: int = Field(
        default=500, ge=50, description="milliseconds between heartbeats: by one of them a verifier learns of a rebalance"
    )
    group_instance_id: str = Field(
        default="",
        max_length=249,
        pattern=r"^[A-Za-z0-9._-]*$",
        description="static membership: a name of its own for each verifier. A restart inside the session timeout then moves "
        "nothing, but one that leaves keeps its partitions dead until that timeout: for a StatefulSet of fixed size only",
    )
    max_queued: int = Field(default=512, ge=1, description="messages read and not finished at which partitions are paused")
    max_queued_bytes: int = Field(
        default=32 * 1024 * 1024, ge=1024, description="bytes of such messages at which partitions are paused; bounds memory"
    )
    commit_interval_ms: int = Field(
        default=100, ge=1, description="milliseconds between commits; longer: fewer requests, more redeliveries after a crash"
    )

    # Who may ask
    master_keys: SecretStr = Field(
        default=SecretStr(""),
        validate_default=True,
        description="master keys (`1:hex,2:hex`, from `sluice keys master`) that workers' credentials were made with; required",
    )
    revoked: str = Field(
        default="", description="groups whose messages are refused, comma separated: GROUP, or ID:GROUP (under one master key)"
    )

    # What each of them may have, of this verifier; whoever spreads sessions over several of them has that much of each
    worker_tokens_per_second: float = Field(
        default=5_000,
        ge=0,
        description="tokens (prompts, spans, rebuilt prefixes) one worker may have judged; 0: no limit",
    )
    worker_burst_tokens: int = Field(default=200_000, ge=1, description="tokens that one worker may send at once after a pause")
    tenant_tokens_per_second: float = Field(
        default=50_000, ge=0, description="tokens that the workers of one tenant together may have judged; 0: no limit"
    )
    tenant_burst_tokens: int = Field(default=2_000_000, ge=1, description="tokens one tenant may send at once after a pause")

    # Redis
    redis_connections: int = Field(default=16, ge=1, description="connections to Redis at most")
    redis_timeout_ms: int = Field(default=2_000, ge=10, description="milliseconds until a command is tried again")
    context_ttl_s: int = Field(default=3_600, ge=1, description="seconds that an idle context or reply stream lives")
    context_bytes: int = Field(
        default=256 * 1024,
        ge=64,
        description="bytes of one session's ids in Redis (1 to 3 a token); longer ones are refused",
    )
    verdict_ttl_s: int = Field(
        default=900, ge=1, description="seconds a verdict is kept for redeliveries; must outlive the longest message (600 s)"
    )
    replies_maxlen: int = Field(default=10_000, ge=16, description="entries (about) that a worker's reply stream keeps")

    # Life cycle
    drain_seconds: float = Field(
        default=15.0, gt=0, description="seconds to finish accepted rounds after SIGTERM or before giving up a partition"
    )

    @field_validator("master_keys")
    @classmethod
    def _masters(cls, keys: SecretStr) -> SecretStr:
        if not keys.get_secret_value():
            raise ValueError("missing; `sluice keys master` makes one")
        parse_masters(keys.get_secret_value())
        return keys

    @field_validator("revoked")
    @classmethod
    def _groups(cls, groups: str) -> str:
        parse_revoked(groups)
        return groups

    @field_validator("tenant_weights", "class_weights")
    @classmethod
    def _weights(cls, weights: str) -> str:
        parse_weights(weights)
        return weights

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.max_batch_sessions > self.slots:
            raise ValueError(f"MAX_BATCH_SESSIONS ({self.max_batch_sessions}) exceeds SLOTS ({self.slots}): each needs a slot")
        if self.heartbeat_ms * 3 > self.session_timeout_ms:
            raise ValueError("HEARTBEAT_MS above a third of SESSION_TIMEOUT_MS: one late heartbeat would lose the partitions")
        for scope in ("worker", "tenant"):
            if getattr(self, f"{scope}_tokens_per_second") and getattr(self, f"{scope}_burst_tokens") < self.capacity_tokens:
                raise ValueError(f"{scope.upper()}_BURST_TOKENS below CAPACITY_TOKENS: no long prompt could ever be opened")
        if self.context_ttl_s < self.verdict_ttl_s:
            raise ValueError("CONTEXT_TTL_S below VERDICT_TTL_S: a session would be lost before its verdicts")
        if self.verdict_ttl_s <= 600:
            raise ValueError("VERDICT_TTL_S must be above 600: a verdict outlives the longest message")
        if self.embedded and self.fetch_wait_ms > 50:
            raise ValueError("FETCH_MAX_WAIT_MS above 50 with EMBEDDED: the embedded broker would delay each message that long")
        if self.fetch_bytes > 16 * MAX_MESSAGE_BYTES:
            raise ValueError(f"FETCH_BYTES above {16 * MAX_MESSAGE_BYTES}: one partition would starve the others")
        return self

    @property
    def fetch_wait_ms(self) -> int:
        if self.fetch_max_wait_ms is not None:
            return self.fetch_max_wait_ms
        return FETCH_MAX_WAIT_MS if self.embedded else 500

    @property
    def torch_threads(self) -> int:
        return self.threads or usable_cores()
