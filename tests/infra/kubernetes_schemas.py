"""Run under .venv/infra: prints one line for each document that a version of Kubernetes would not take as it is.

    kubernetes_schemas.py VERSION,VERSION FILE ...

A kind that no schema is known for is a failure too, unless its group is one of custom resources, which others check.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import kubernetes_validate  # type: ignore[import-not-found, unused-ignore]  # not in the project's own environment
import yaml

FAILURES = (
    kubernetes_validate.ValidationError,
    kubernetes_validate.SchemaNotFoundError,
    kubernetes_validate.InvalidSchemaError,
)
CUSTOM = ("keda.sh/", "monitoring.coreos.com/", "kafka.strimzi.io/")


def problems(versions: list[str], files: list[str]) -> Iterator[str]:
    for file in files:
        for document in yaml.load_all(Path(file).read_text(), getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
            if not document or document["apiVersion"].startswith(CUSTOM):
                continue
            for version in versions:
                yield from (f"{file}: {document['kind']}/{document['metadata']['name']}: {p}" for p in _of(document, version))


def _of(document: object, version: str) -> Iterator[str]:
    try:
        kubernetes_validate.validate(document, version, strict=True)
    except FAILURES as error:
        yield f"Kubernetes {version}: {type(error).__name__}: {' '.join(str(error).split())[:300]}"


if __name__ == "__main__":
    found = list(problems(sys.argv[1].split(","), sys.argv[2:]))
    sys.stdout.write("".join(f"{line}\n" for line in found))
    sys.exit(bool(found))
