"""Devices, servers and links out of data files: those that come along, or the user's own.

One set for services and evaluations.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

FOLDER = Path(__file__).parent / "profiles"


class ProfileError(ValueError):
    """``str`` is one line that says what is wrong and what to do."""


class Profile(BaseModel):
    """An entry of a file ``KINDs.toml``."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str
    note: str = ""


class Device(Profile):
    """``step_seconds``: one drafting step with the gate. Watts of the whole device: drafting, doing nothing, sending,
    receiving; ``wait_watts``: waiting for a verdict (none: as doing nothing). Joules per bit: what traffic adds, where it is
    known how much went and not how long it was on air."""

    step_seconds: float = Field(gt=0)
    draft_watts: float = Field(ge=0)
    idle_watts: float = Field(ge=0)
    transmit_watts: float = Field(ge=0)
    receive_watts: float = Field(ge=0)
    wait_watts: float | None = Field(default=None, ge=0)
    transmit_joules_per_bit: float | None = Field(default=None, ge=0)
    receive_joules_per_bit: float | None = Field(default=None, ge=0)

    @property
    def waiting_watts(self) -> float:
        return self.idle_watts if self.wait_watts is None else self.wait_watts


class Server(Profile):
    """A pass takes ``pass_seconds`` and ``token_seconds`` for each token fed; ``sessions_per_pass`` share the first. Other
    sessions make a session wait ``queue_seconds`` once, and every pass of it ``slowdown`` times as long. ``watts`` in a pass;
    ``idle_watts`` between passes, which count for no session."""

    pass_seconds: float = Field(ge=0)
    token_seconds: float = Field(ge=0)
    watts: float = Field(ge=0)
    idle_watts: float | None = Field(default=None, ge=0)
    sessions_per_pass: float = Field(default=1.0, ge=1)
    queue_seconds: float = Field(default=0.0, ge=0)
    slowdown: float = Field(default=1.0, ge=1)

    def seconds(self, fed: int) -> float:
        """A pass over ``fed`` tokens, as the session sees it, without the queue."""
        return self.slowdown * (self.pass_seconds + self.token_seconds * fed)

    def busy_seconds(self, passes: int, fed: int) -> float:
        """A session's share of the server's time for ``passes`` passes over ``fed`` tokens in all."""
        return passes * self.pass_seconds / self.sessions_per_pass + self.token_seconds * fed

    def joules(self, passes: int, fed: int) -> float:
        """Of its busy seconds."""
        return self.watts * self.busy_seconds(passes, fed)


P = TypeVar("P", bound=Profile)


def load(kind: type[P], wanted: str) -> P:
    """``wanted``: a name in the files that come along, ``FILE.toml`` (its first entry) or ``FILE.toml:NAME``. Raises
    ``ProfileError``."""
    table = kind.__name__.lower()
    file, name = FOLDER / f"{table}s.toml", wanted
    if ".toml" in wanted:
        text, _, rest = wanted.rpartition(".toml")
        file, name = Path(text + ".toml"), rest.removeprefix(":")
    try:
        entries = tomllib.loads(file.read_text()).get(table, [])
        found = [kind.model_validate(entry) for entry in entries]
    except OSError as error:
        raise ProfileError(f"{file} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors()[0]
        raise ProfileError(f"{file}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, AttributeError) as error:
        raise ProfileError(f"{file} is no TOML file with [[{table}]] entries") from error
    for profile in found:
        if name in ("", profile.name):
            return profile
    known = ", ".join(p.name for p in found) or "none"
    raise ProfileError(f"there is no {table} {name!r} in {file.name}: choose one of {known}, or name a TOML file of your own")
