"""Keys of one local stack: made anew for each run, unless the environment brings an operator's own."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from services.cli.errors import CommandError
from services.common.credentials import Credential, CredentialError, masters_text, new_master, parse_masters

MASTERS = "SLUICE_VERIFIER_MASTER_KEYS"
CREDENTIAL = "SLUICE_EDGE_CREDENTIAL"
GROUP = "local"


@dataclass(frozen=True)
class Identities:
    """Master keys of the verifiers and the credential of the edge workers of one run."""

    masters: Mapping[int, bytes] = field(repr=False)
    given: str = field(default="", repr=False)

    @classmethod
    def of_run(cls, environment: Mapping[str, str] = os.environ) -> Identities:
        """Raises ``CommandError`` where the environment's own keys cannot work."""
        masters, credential = environment.get(MASTERS, ""), environment.get(CREDENTIAL, "")
        if credential and not masters:
            raise CommandError(f"{CREDENTIAL} is set but {MASTERS} is not: the verifiers of this stack could not check it")
        try:
            found = parse_masters(masters) if masters else {1: new_master()}
            if credential:
                Credential.parse(credential)
        except CredentialError as error:
            raise CommandError(f"{CREDENTIAL if credential else MASTERS}: {error}") from error
        return cls(found, credential)

    def verifier(self) -> dict[str, str]:
        return {MASTERS: masters_text(self.masters)}

    def edge_worker(self) -> dict[str, str]:
        return {CREDENTIAL: self.given or self.issue(GROUP).text()}

    def issue(self, group: str) -> Credential:
        """A credential for another group of this run's workers."""
        return Credential.issue(self.masters, max(self.masters), group)
