"""What the operator allows a request to ask, and what it gets when it asks nothing."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, model_validator

from services.common.messages import Mode
from services.edge_worker.answer import OnOutage


class Bounds(BaseModel):
    """The operator's limits and defaults. Times are in seconds, sizes in the unit of the name."""

    model_config = ConfigDict(frozen=True)

    modes: tuple[Mode, ...] = (Mode.OPPORTUNISTIC, Mode.LOSSLESS)
    default_mode: Mode = Mode.OPPORTUNISTIC
    k_max: int = Field(default=16, ge=0, description="most candidates in one upload a request may ask for")
    default_k: int = Field(default=4, ge=0)
    gamma_min: float = Field(default=0.0, ge=0.0, allow_inf_nan=False)
    gamma_max: float = Field(default=10.0, ge=0.0, allow_inf_nan=False)
    default_gamma: float = Field(default=1.0, ge=0.0, allow_inf_nan=False)
    deadline_min: float = Field(default=0.01, gt=0.0, allow_inf_nan=False, description="shortest wait for a verdict, seconds")
    deadline_max: float = Field(default=60.0, gt=0.0, allow_inf_nan=False, description="longest wait for a verdict, seconds")
    default_deadline: float = Field(default=2.0, gt=0.0, allow_inf_nan=False)
    default_on_outage: OnOutage = Field(default=OnOutage.DEGRADE, description="opportunistic answers; lossless ones wait")
    max_tokens: int = Field(default=4096, ge=1, description="most tokens of one answer")
    default_completion_tokens: int = Field(default=16, ge=1, description="tokens of /v1/completions without max_tokens")
    body_bytes: int = Field(default=512 * 1024, ge=1024, description="largest request body")
    prompt_characters: int = Field(default=262_144, ge=1, description="longest prompt that is tokenised at all")
    messages: int = Field(default=2048, ge=1, description="most messages in one chat request")
    stop_sequences: int = Field(default=4, ge=1)
    stop_characters: int = Field(default=256, ge=1, description="longest stop sequence")
    top_logprobs: int = Field(default=20, ge=0, description="most alternatives per token in the chat API")

    @model_validator(mode="after")
    def _agree(self) -> Bounds:
        if self.default_mode not in self.modes:
            raise ValueError(f"default_mode {self.default_mode} is not among the allowed modes")
        if self.default_k > self.k_max:
            raise ValueError(f"default_k {self.default_k} is above k_max {self.k_max}")
        if not self.gamma_min <= self.default_gamma <= self.gamma_max:
            raise ValueError(f"default_gamma {self.default_gamma} is not in [{self.gamma_min}, {self.gamma_max}]")
        if not self.deadline_min <= self.default_deadline <= self.deadline_max:
            raise ValueError(f"default_deadline {self.default_deadline} is not in [{self.deadline_min}, {self.deadline_max}]")
        if self.default_mode is Mode.LOSSLESS and self.default_k == 0:
            raise ValueError("default_mode lossless needs default_k of at least 1")
        return self

    def on_outage(self, mode: Mode) -> OnOutage:
        """What an answer in ``mode`` does at an outage when its request does not say."""
        return OnOutage.WAIT if mode is Mode.LOSSLESS else self.default_on_outage
