"""Who sends a message: credentials of workers, and the signature that each Kafka record carries. Pure, no I/O.

Verifiers hold *master keys*, each under an id from 1 to 255, so that keys can be replaced while both are in use. From a
master key follows the key of a *group* of workers (with the tenant it is bound to), and from that the key of each worker, named
``group`` or ``group.instance``: pods that share one credential still have keys, reply streams and Redis keys of their own.

The header of a record is: key id (1 byte), HMAC-SHA256 cut to 10 bytes, length of the worker's name (1 byte), its name, its
tenant. The HMAC, under the worker's key, covers key id, worker, tenant, Kafka key and value.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
import secrets
from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

HEADER = "a"
MAC_BYTES = 10
KEY_BYTES = 32
GROUP_CHARACTERS = 16
WORKER_CHARACTERS = 33
TENANT_CHARACTERS = 64
_FIXED = 1 + MAC_BYTES + 1
_GROUP = re.compile(rf"[A-Za-z0-9_-]{{1,{GROUP_CHARACTERS}}}")
_WORKER = re.compile(rf"(?=.{{1,{WORKER_CHARACTERS}}}$)[A-Za-z0-9_-]{{1,{GROUP_CHARACTERS}}}(\.[A-Za-z0-9._-]+)?")
_TENANT = re.compile(rf"[A-Za-z0-9._@-]{{0,{TENANT_CHARACTERS}}}")
_TEXT = "sluice1"
_CACHED_KEYS = 4096


class CredentialError(ValueError):
    """A credential or a master key that cannot be used; ``str(error)`` is one line and shows no secret."""


class AuthError(ValueError):
    """A message of nobody we know; ``str(error)`` is one line fit for a dead letter."""


@dataclass(frozen=True)
class Identity:
    """Who sent a message. An empty ``tenant``: the group may name the tenant of each session itself."""

    worker: str
    tenant: str

    @property
    def group(self) -> str:
        return self.worker.partition(".")[0]

    def effective_tenant(self, named: str) -> str:
        """Whose session it is, where the message names tenant ``named``: a bound tenant stands, else it stays in the group."""
        return self.tenant or f"{self.group}/{named}"

    def owns(self, tenant: str) -> bool:
        """Whether a session of ``tenant`` (an effective one) can be this worker's."""
        return tenant == self.tenant if self.tenant else tenant.startswith(f"{self.group}/")

    @cached_property
    def tag(self) -> bytes:
        """The identity as bytes; no two identities have the same."""
        return f"{self.worker}\0{self.tenant}".encode()


@dataclass(frozen=True)
class Credential:
    """What an operator hands to a group of workers. The key is not shown by ``repr``."""

    key_id: int
    group: str
    tenant: str
    key: bytes = field(repr=False)

    @classmethod
    def issue(cls, masters: Mapping[int, bytes], key_id: int, group: str, tenant: str = "") -> Credential:
        """The credential of ``group`` under master key ``key_id``. Raises ``CredentialError``."""
        if key_id not in masters:
            raise CredentialError(f"there is no master key {key_id}; there are {', '.join(map(str, sorted(masters)))}")
        _check_names(group, tenant)
        return cls(key_id, group, tenant, _group_key(masters[key_id], group, tenant))

    @classmethod
    def parse(cls, text: str) -> Credential:
        """From its text form. Raises ``CredentialError``."""
        parts = text.strip().split(":")
        if len(parts) != 5 or parts[0] != _TEXT:
            raise CredentialError(
                f"not a credential: it reads {_TEXT}:ID:GROUP:TENANT:KEY (`sluice keys worker GROUP` prints one)"
            )
        number, group, tenant, key = parts[1:]
        key_id = _key_id(number)
        _check_names(group, tenant)
        try:
            decoded = base64.b64decode(key + "=" * (-len(key) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError) as error:
            raise CredentialError("the key of the credential is not base64url: was it cut off?") from error
        if len(decoded) != KEY_BYTES:
            raise CredentialError(f"the key of the credential has {len(decoded)} bytes, not {KEY_BYTES}: was it cut off?")
        return cls(key_id, group, tenant, decoded)

    def text(self) -> str:
        """The secret itself, for an environment variable or a file."""
        key = base64.urlsafe_b64encode(self.key).decode().rstrip("=")
        return f"{_TEXT}:{self.key_id}:{self.group}:{self.tenant}:{key}"


class Signer:
    """Signs as ``worker``, which is ``credential``'s group or ``group.instance``; raises ``CredentialError`` else."""

    def __init__(self, credential: Credential, worker: str) -> None:
        if worker.partition(".")[0] != credential.group or not _WORKER.fullmatch(worker):
            raise CredentialError(
                f"worker {worker!r} is not of the credential's group: it must read {credential.group} or"
                f" {credential.group}.NAME, with {WORKER_CHARACTERS} characters at most"
            )
        self.worker = worker
        self._key = _worker_key(credential.key, worker)
        self._id = bytes([credential.key_id])
        self._name = _name(worker, credential.tenant)

    def header(self, key: bytes, value: bytes) -> bytes:
        """The value of header ``HEADER`` for a record with this Kafka key and value."""
        return self._id + _mac(self._key, self._id, self._name, key, value) + self._name

    def headers(self, key: bytes, value: bytes) -> list[tuple[str, bytes]]:
        """The headers of such a record."""
        return [(HEADER, self.header(key, value))]


class Keyring:
    """What a verifier knows. ``revoked``: groups that are refused, ``GROUP`` or ``ID:GROUP`` (under one master key)."""

    def __init__(self, masters: Mapping[int, bytes], revoked: Collection[str] = ()) -> None:
        self._masters = dict(masters)
        self._revoked = frozenset(revoked)
        self._known: OrderedDict[bytes, tuple[Identity, bytes]] = OrderedDict()

    def verify(self, headers: Iterable[tuple[str, bytes]], key: bytes, value: bytes) -> Identity:
        """Who signed a record with these headers. Raises ``AuthError``."""
        found = [data for name, data in headers if name == HEADER]
        if len(found) != 1 or found[0] is None:
            raise AuthError("not signed" if not found else "signed more than once")
        header = found[0]
        if len(header) <= _FIXED:
            raise AuthError("a signature that is cut off")
        key_id, mac, name = header[:1], header[1 : 1 + MAC_BYTES], header[1 + MAC_BYTES :]
        identity, worker_key = self._known.get(key_id + name) or self._derive(key_id[0], name)
        if not hmac.compare_digest(_mac(worker_key, key_id, name, key, value), mac):
            raise AuthError("a wrong signature")
        if identity.group in self._revoked or f"{key_id[0]}:{identity.group}" in self._revoked:
            raise AuthError(f"the credential of group {identity.group} is revoked")
        self._remember(key_id + name, identity, worker_key)
        return identity

    def _derive(self, key_id: int, name: bytes) -> tuple[Identity, bytes]:
        master = self._masters.get(key_id)
        if master is None:
            raise AuthError(f"signed under master key {key_id}, which this verifier does not have")
        try:
            identity = Identity(name[1 : 1 + name[0]].decode(), name[1 + name[0] :].decode())
        except UnicodeDecodeError as error:
            raise AuthError("a signature of no known form") from error
        return identity, _checked_key(master, identity)

    def _remember(self, name: bytes, identity: Identity, key: bytes) -> None:
        """Only of messages that were right: junk cannot push out the keys of those who work."""
        self._known[name] = (identity, key)
        self._known.move_to_end(name)
        if len(self._known) > _CACHED_KEYS:
            self._known.popitem(last=False)


def new_master() -> bytes:
    return secrets.token_bytes(KEY_BYTES)


def masters_text(masters: Mapping[int, bytes]) -> str:
    """The secret itself: ``1:hex,2:hex``."""
    return ",".join(f"{key_id}:{key.hex()}" for key_id, key in sorted(masters.items()))


def parse_masters(text: str) -> dict[int, bytes]:
    """Master keys from their text form. Raises ``CredentialError``."""
    masters: dict[int, bytes] = {}
    for part in filter(None, (p.strip() for p in text.split(","))):
        number, colon, key = part.partition(":")
        if not colon:
            raise CredentialError(
                "a master key reads ID:HEX (`sluice keys master` prints one); several are separated by commas"
            )
        key_id = _key_id(number)
        try:
            decoded = bytes.fromhex(key)
        except ValueError as error:
            raise CredentialError(f"master key {key_id} is not hexadecimal") from error
        if len(decoded) != KEY_BYTES:
            raise CredentialError(f"master key {key_id} has {len(decoded)} bytes, not {KEY_BYTES}: was it cut off?")
        if key_id in masters:
            raise CredentialError(f"master key {key_id} is given twice")
        masters[key_id] = decoded
    if not masters:
        raise CredentialError("no master key; `sluice keys master` makes one")
    return masters


def parse_revoked(text: str) -> frozenset[str]:
    """Groups from a list separated by commas. Raises ``CredentialError``."""
    groups = frozenset(filter(None, (p.strip() for p in text.split(","))))
    for entry in groups:
        number, colon, group = entry.rpartition(":")
        if not _GROUP.fullmatch(group) or (colon and not number.isdigit()):
            raise CredentialError(f"{entry!r} is neither GROUP nor ID:GROUP")
    return groups


def _key_id(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 255:
        raise CredentialError(f"a key id is a number from 1 to 255, not {text[:20]!r}")
    return int(text)


def _check_names(group: str, tenant: str) -> None:
    if not _GROUP.fullmatch(group):
        raise CredentialError(f"a group has 1 to {GROUP_CHARACTERS} letters, digits, - or _: {group[:40]!r} does not")
    if not _TENANT.fullmatch(tenant):
        raise CredentialError(f"a tenant has at most {TENANT_CHARACTERS} letters, digits or ._@-: {tenant[:80]!r} does not fit")


def _checked_key(master: bytes, identity: Identity) -> bytes:
    if not _WORKER.fullmatch(identity.worker) or not _TENANT.fullmatch(identity.tenant):
        raise AuthError("a signature of no known form")
    return _worker_key(_group_key(master, identity.group, identity.tenant), identity.worker)


def _group_key(master: bytes, group: str, tenant: str) -> bytes:
    return hmac.digest(master, b"\0".join((b"sluice worker group", group.encode(), tenant.encode())), "sha256")


def _worker_key(group_key: bytes, worker: str) -> bytes:
    return hmac.digest(group_key, worker.encode(), "sha256")


def _name(worker: str, tenant: str) -> bytes:
    return bytes([len(worker)]) + worker.encode() + tenant.encode()


def _mac(worker_key: bytes, key_id: bytes, name: bytes, key: bytes, value: bytes) -> bytes:
    # Each part but the last has its length before it, so that no byte can wander from one part to the next.
    covered = b"".join((key_id, len(name).to_bytes(2, "big"), name, len(key).to_bytes(4, "big"), key, value))
    return hmac.digest(worker_key, covered, "sha256")[:MAC_BYTES]
