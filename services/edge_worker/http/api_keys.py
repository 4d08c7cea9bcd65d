"""Who may use the HTTP API: keys, known by their hashes, each with an owner; several per owner, so that they can be rotated.

Keys come from settings and from a file that is read again when it changes. A line of the file is ``OWNER sha256:HEX`` and,
where the key is to end, the last day it is good for (UTC): ``OWNER sha256:HEX 2027-01-31``. Blank lines and those
that begin with ``#`` say nothing. A key carries 256 random bits, so a fast hash gives nothing away.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

import structlog
from pydantic import SecretStr

OWNER = re.compile(r"[A-Za-z0-9._-]{1,48}")
HASH = re.compile(r"sha256:([0-9a-f]{64})")
LOOK_SECONDS = 1.0  # how often the file may be asked whether it has changed

log = structlog.get_logger()


@dataclass(frozen=True)
class ApiKey:
    """One key. ``owner`` names the tenant; ``until``: the last day it is good for, UTC."""

    owner: str
    digest: bytes
    until: date | None = None


def digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


def new_key() -> tuple[str, str]:
    """A fresh key, and the hash by which it is known: ``sha256:HEX``."""
    key = f"sk-sluice-{secrets.token_urlsafe(32)}"
    return key, f"sha256:{digest(key).hex()}"


def owner_of(digest: bytes) -> str:
    """The name of a key that has none: the same on every worker; the key cannot be told from it."""
    return hashlib.blake2b(digest, digest_size=8, person=b"sluice-tenant").hexdigest()


def from_settings(keys: Sequence[SecretStr]) -> list[ApiKey]:
    """Keys as given in the environment: plain, or as ``sha256:HEX``. Raises ``ValueError`` for an empty one."""
    found = []
    for key in keys:
        text = key.get_secret_value().strip()
        if not text:
            raise ValueError("an API key is empty")
        hashed = HASH.fullmatch(text)
        known = bytes.fromhex(hashed[1]) if hashed else digest(text)
        found.append(ApiKey(owner_of(known), known))
    return found


def from_file(path: Path) -> list[ApiKey]:
    """The keys of a file. Raises ``ValueError`` that names the line, never a key; ``OSError`` if it cannot be read."""
    found = []
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        hashed = HASH.fullmatch(words[1]) if len(words) in (2, 3) else None
        if hashed is None or not OWNER.fullmatch(words[0]):
            raise ValueError(f"{path}, line {number}: expected OWNER sha256:HEX [LAST DAY]; see `sluice keys api`")
        try:
            until = date.fromisoformat(words[2]) if len(words) == 3 else None
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: the last day must look like 2027-01-31") from error
        found.append(ApiKey(words[0], bytes.fromhex(hashed[1]), until))
    return found


class ApiKeys:
    """The keys in force. Without any the API is open to all; an empty file closes it."""

    def __init__(
        self,
        keys: Sequence[SecretStr] = (),
        file: Path | None = None,
        *,
        today: Callable[[], date] = lambda: datetime.now(UTC).date(),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Raises ``ValueError`` or ``OSError`` for keys that cannot be read."""
        self._fixed = from_settings(keys)
        self._file, self._today, self._clock = file, today, clock
        self._stamp = self._stat()
        self._read = from_file(file) if file is not None else []
        self._looked = clock()

    @property
    def required(self) -> bool:
        return bool(self._fixed) or self._file is not None

    def owner(self, key: str) -> str | None:
        """Whose key it is; None: nobody's, or one that has ended."""
        self._look()
        given = digest(key)
        owner = None
        for known in (*self._fixed, *self._read):
            good = known.until is None or self._today() <= known.until
            if hmac.compare_digest(known.digest, given) and good:
                owner = known.owner
        return owner

    def _look(self) -> None:
        if self._file is None or self._clock() - self._looked < LOOK_SECONDS:
            return
        self._looked = self._clock()
        stamp = self._stat()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._read = from_file(self._file)
        except (ValueError, OSError) as error:
            log.error("the file of API keys cannot be read; the keys read before stay in force", error=str(error))
        else:
            log.info("API keys read again", keys=len(self._read))

    def _stat(self) -> tuple[int, int, int] | None:
        """What changes when the file does; also when a mounted secret is swapped for a new one."""
        if self._file is None:
            return None
        try:
            found = self._file.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino
