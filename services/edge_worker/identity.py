"""What this worker is called and with what it signs. Pure but for the random name of a nameless worker."""

from __future__ import annotations

import hashlib
import secrets

from services.common.credentials import Credential, Signer

INSTANCE_CHARACTERS = 16  # the name travels in each upload


def signer(credential: str, wanted: str) -> Signer:
    """Signs as the worker ``wanted`` of the credential's group. Raises ``CredentialError``."""
    parsed = Credential.parse(credential)
    return Signer(parsed, worker_name(parsed.group, wanted))


def worker_name(group: str, wanted: str) -> str:
    """``wanted`` where it names a worker of the group already, else ``group.wanted``; hashed if long, random if empty."""
    if wanted == group or (wanted.startswith(f"{group}.") and len(wanted) <= len(group) + 1 + INSTANCE_CHARACTERS):
        return wanted
    instance = wanted.removeprefix(f"{group}.") or secrets.token_hex(4)
    if len(instance) > INSTANCE_CHARACTERS:
        instance = f"{instance[:7]}-{hashlib.blake2b(instance.encode(), digest_size=4).hexdigest()}"
    return f"{group}.{instance}"
