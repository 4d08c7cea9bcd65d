"""Every knob of `sluice topics`: environment variables with the prefix ``SLUICE_TOPICS_``."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator
from pydantic_settings import SettingsConfigDict

from services.common.kafka.link import KafkaSettings
from services.common.messages import MAX_MESSAGE_BYTES

MOST_HOURS = 7 * 24  # dead letters carry token ids, which count as text: that long and no longer
_ENVELOPE_BYTES = 4 * 1024  # headers and framing of Kafka around a message


class TopicsSettings(KafkaSettings):
    """What the topics shall be like. Contradictory values are refused."""

    model_config = SettingsConfigDict(env_prefix="SLUICE_TOPICS_", extra="ignore")

    replication: int = Field(
        default=0, ge=0, le=32, description="copies of each partition; 0: three, or as many as there are brokers"
    )
    partitions: int = Field(
        default=12,
        ge=1,
        le=10_000,
        description="partitions of the candidates: the most verifiers that can share the work, a multiple of the usual number",
    )
    retention_seconds: int = Field(
        default=3_600, ge=660, description="seconds that candidates are kept; longer than they are valid (600 s)"
    )
    partition_bytes: int = Field(
        default=1024**3, ge=16 * 1024**2, description="bytes of candidates kept in one partition at most; bounds the disk"
    )
    max_message_bytes: int = Field(
        default=MAX_MESSAGE_BYTES + _ENVELOPE_BYTES,
        ge=MAX_MESSAGE_BYTES + _ENVELOPE_BYTES,
        le=8 * 1024**2,
        description="largest message with its key, headers and framing, in bytes; brokers refuse larger ones",
    )
    dead_letter_partitions: int = Field(default=3, ge=1, le=1_000, description="partitions of the dead letters")
    dead_letter_retention_hours: int = Field(
        default=144, ge=1, description="hours that dead letters are kept; with the segment hours at most 168 (seven days)"
    )
    dead_letter_segment_hours: int = Field(
        default=12, ge=1, le=48, description="hours until a file of dead letters is closed: only closed files are deleted"
    )
    dead_letter_partition_bytes: int = Field(
        default=64 * 1024**2, ge=4 * 1024**2, description="bytes of dead letters kept in one partition at most"
    )

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        hours = self.dead_letter_retention_hours + self.dead_letter_segment_hours
        if hours > MOST_HOURS:
            raise ValueError(
                f"DEAD_LETTER_RETENTION_HOURS and DEAD_LETTER_SEGMENT_HOURS make {hours} h: "
                f"dead letters are kept {MOST_HOURS} h (seven days) at most"
            )
        return self
