"""Master keys and credentials of one test run: what every service and device of the tests is set up with."""

from __future__ import annotations

import os

from services.common.credentials import Credential, Keyring, Signer, masters_text, new_master

MASTERS = {1: new_master()}
GROUP = "test"
MASTER_KEYS = masters_text(MASTERS)


def credential(group: str = GROUP, tenant: str = "") -> Credential:
    return Credential.issue(MASTERS, 1, group, tenant)


def signer(worker: str, tenant: str = "") -> Signer:
    """Signs as ``worker`` (``group`` or ``group.instance``)."""
    return Signer(credential(worker.partition(".")[0], tenant), worker)


def keyring() -> Keyring:
    return Keyring(MASTERS)


def install() -> None:
    """Into the environment, from which services take their settings."""
    os.environ["SLUICE_VERIFIER_MASTER_KEYS"] = MASTER_KEYS
    os.environ["SLUICE_EDGE_CREDENTIAL"] = credential().text()
