"""Ask the Hugging Face hub for an id once, before anything is downloaded, so that a wrong one fails at once and clearly."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import HfApi, constants, try_to_load_from_cache
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from services.common.lm.errors import ModelError, one_line

_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
_SECONDS = 10.0


@dataclass(frozen=True)
class Located:
    """A model of the hub. Downloads ask for ``revision`` as the user did: only then can they be found by it later."""

    name: str
    revision: str
    commit: str  # what the revision stands for; as asked where the hub was not reached and the cache does not say
    offline: bool  # not reached: use what earlier downloads left


def locate(reference: str) -> Located:
    """``id`` or ``id@revision`` of the hub; ``ModelError`` if there is no such model, no access, or no way to find out."""
    name, _, asked = reference.partition("@")
    revision = asked or constants.DEFAULT_REVISION
    if not _ID.fullmatch(name):
        raise ModelError(f"{reference!r} is no preset, file, folder or hub id (owner/name): check the spelling")
    try:
        info = HfApi().model_info(name, revision=revision, timeout=_SECONDS)
    except GatedRepoError:
        raise ModelError(f"{name} needs an accepted licence: accept it on the hub's page, then run `hf auth login`") from None
    except RepositoryNotFoundError:
        raise ModelError(
            f"the hub knows no model {name} (or it is private): check the spelling or run `hf auth login`"
        ) from None
    except RevisionNotFoundError:
        raise ModelError(f"{name} has no revision {revision}: check the part after '@'") from None
    except HFValidationError:
        raise ModelError(f"{reference!r} is no preset, file, folder or hub id (owner/name): check the spelling") from None
    except Exception as error:  # noqa: BLE001 - no network shows as an error of whichever HTTP library the client uses
        return _downloaded(name, revision, error)
    return Located(name, revision, info.sha or revision, offline=False)


def _downloaded(name: str, revision: str, error: Exception) -> Located:
    """What an earlier download left of a model, when the hub cannot be asked."""
    config = try_to_load_from_cache(name, "config.json", revision=revision)
    if isinstance(config, str):
        return Located(name, revision, Path(config).parent.name, offline=True)  # snapshots/COMMIT/config.json
    raise ModelError(
        f"{name} is not on this machine and the hub cannot be reached ({one_line(error)}): "
        "connect to a network, or use the preset smollm2-135m, which works offline"
    ) from None
