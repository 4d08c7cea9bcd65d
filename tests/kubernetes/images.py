"""The project's images, built by buildah from the Dockerfile: as they are, and with the schema of messages before."""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from services.common.messages import SCHEMA
from tests.kubernetes.shell import run

ROOT = Path(__file__).parents[2]
TARGETS = ("policy", "verifier", "edge-worker")
REGISTRY = "localhost"
NOW, OLDER = "now", "older"
CLIENT = f"{REGISTRY}/sluice-client:{NOW}"
BUILD_SECONDS = 3600.0
_BUILDAH = ("buildah", "--storage-driver", "overlay")
_HOST_FILES = ("/etc/ssl/certs", "/etc/pip.conf")  # how this machine reaches a package index


def name(target: str, tag: str = NOW) -> str:
    return f"{REGISTRY}/sluice-{target}:{tag}"


@dataclass(frozen=True)
class Builder:
    """``base``: an image of this machine for the Dockerfile's argument BASE; empty: the Dockerfile's own, which is pulled."""

    base: str

    def build(self, target: str, tag: str = NOW, context: Path = ROOT) -> None:
        base = ["--pull-never", "--build-arg", f"BASE={self.base}"] if self.base else []
        revision = run("git", "rev-parse", "HEAD", cwd=str(ROOT)).strip()
        self._bud(
            context,
            ROOT / "infra" / "docker" / "Dockerfile",
            name(target, tag),
            *base,
            "--target",
            target,
            "--build-arg",
            f"REVISION={revision}",
        )

    def client(self) -> None:
        """The policy's image with OpenAI's client: what talks to the Service."""
        pinned = next(line for line in (ROOT / "constraints.txt").read_text().split() if line.startswith("openai=="))
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "Dockerfile"
            file.write_text(
                f"FROM {name('policy')}\nUSER 0\nCOPY constraints.txt /tmp/\n"
                "RUN python3 -m venv /pip && "
                f"/pip/bin/python -m pip --python /opt/sluice/bin/python install -c /tmp/constraints.txt {pinned} "
                "&& rm -rf /pip /tmp/constraints.txt\nUSER 10001:10001\n"
            )
            shutil.copy(ROOT / "constraints.txt", folder)
            self._bud(Path(folder), file, CLIENT, "--pull-never")

    def older(self, target: str) -> int:
        """The same program with the schema of messages before this one, whose fields it leaves out; returns that version."""
        version = SCHEMA - 1
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "Dockerfile"
            file.write_text(
                f"FROM {name(target)}\nUSER 0\n"
                "RUN cd /opt/sluice/lib/python3*/site-packages/services/common "
                f"&& sed -i 's/^SCHEMA = {SCHEMA}/SCHEMA = {version}/' messages.py "
                "&& python -m compileall -q -f --invalidation-mode unchecked-hash messages.py "
                f"&& python -c 'from services.common.messages import SCHEMA; assert SCHEMA == {version}'\nUSER 10001:10001\n"
            )
            self._bud(Path(folder), file, name(target, OLDER), "--pull-never")
        return version

    def _bud(self, context: Path, file: Path, image: str, *options: str) -> None:
        mounts = [part for path in _HOST_FILES if Path(path).exists() for part in ("-v", f"{path}:{path}:ro")]
        common = ["--isolation", "chroot", "--layers", "-f", str(file), "-t", image]
        run(*_BUILDAH, "bud", *common, *mounts, *options, str(context), seconds=BUILD_SECONDS, cwd=str(context))

    def above_base_mb(self, target: str) -> float:
        """10^6 bytes that an image adds to its base, unpacked: the sum of the layers that the base does not have."""
        base = self.base or _from_image(name(target))
        return (_bytes(name(target)) - _bytes(base)) / 1e6


def archive(images: list[str], folder: Path) -> Path:
    """One file for all ``images``; layers that they share are in it once."""
    layout = folder / "layout"
    for image in images:
        run(
            *_BUILDAH,
            "push",
            "-q",
            "--compression-format",
            "zstd",
            "--compression-level",
            "1",
            image,
            f"oci:{layout}:{image}",
            seconds=1800,
        )
    packed = folder / "images.tar"
    run("tar", "--remove-files", "-C", str(layout), "-cf", str(packed), "blobs", "index.json", "oci-layout", seconds=1200)
    return packed


def labels(image: str) -> dict[str, str]:
    found: dict[str, str] = (
        json.loads(run(*_BUILDAH, "inspect", "--type", "image", image))["OCIv1"]["config"].get("Labels") or {}
    )
    return found


def _bytes(image: str) -> int:
    container = run(*_BUILDAH, "from", "--pull-never", image).strip()
    try:
        folder = run(*_BUILDAH, "mount", container).strip()
        return int(run("du", "-sxb", folder).split()[0])
    finally:
        run(*_BUILDAH, "rm", container)


def _from_image(image: str) -> str:
    return str(json.loads(run(*_BUILDAH, "inspect", "--type", "image", image))["FromImage"])
