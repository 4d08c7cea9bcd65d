"""The sampling parameters that device and verifier share. No torch here: messages carry them."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class Sampling(BaseModel):
    """``temperature = 0`` is greedy; ``top_k = 0`` and ``top_p = 1`` mean: not used."""

    model_config = ConfigDict(frozen=True)

    temperature: float = Field(default=1.0, ge=0.0, le=2.0)
    top_p: float = Field(default=1.0, gt=0.0, le=1.0)
    top_k: int = Field(default=0, ge=0)

    @property
    def greedy(self) -> bool:
        return self.temperature == 0.0
