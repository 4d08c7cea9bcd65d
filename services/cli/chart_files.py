"""What the chart says of the settings and of its values: `python -m services.cli.chart_files` writes both (`make docs`).

In ``values.schema.json`` the definitions ``...Settings`` are made from the settings classes, so that `helm` refuses a setting
that there is not, and one of the wrong type; all else in that file is written by hand. ``README.md`` is made from
``values.yaml``: each value, or the map it is in, has a comment ``# -- what it does``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from pydantic import SecretStr
from pydantic_settings import BaseSettings

CHART = Path(__file__).parents[2] / "infra" / "helm" / "sluice"
SCHEMA = CHART / "values.schema.json"
README = CHART / "README.md"
# Not for pods: the broker of one process, a name that would be the same for all of them, a file of the tests.
_UNFIT = {"embedded", "group_instance_id", "synthetic_trace"}
_MARK = "# -- "
_HEAD = """# sluice

{description}

Kubernetes {kube}. How to install, check, scale and upgrade it: [docs/deploy-kubernetes.md](../../../docs/deploy-kubernetes.md).
Examples of values: [laptop](examples/laptop.yaml), [one GPU](examples/one-gpu.yaml), [fleet](examples/fleet.yaml).

```
helm install sluice infra/helm/sluice --namespace sluice --create-namespace -f my-values.yaml --wait
helm test sluice --namespace sluice
```

`config` of a service takes its [settings](../../../docs/settings.md) without the prefix and in lower case:
`edgeWorker.config.k_max` is `SLUICE_EDGE_K_MAX`. An unknown one is refused, and so is one that the chart sets by itself, or
that is a secret: secrets come from `existingSecret`, a Secret with one key for each, called like the variable in lower case
(`sluice_edge_credential`), or from `secretKeys`, for example `{{setting: kafka_password, secret: edge, key: password}}`.

This page is made from `values.yaml` by `make docs`.

| value | default | effect |
|---|---|---|
"""


def settings_classes() -> dict[str, type[BaseSettings]]:
    """Settings by the name of their definition in the schema."""
    from services.cli.topics.settings import TopicsSettings
    from services.edge_worker.settings import EdgeSettings
    from services.policy.settings import PolicySettings
    from services.verifier.settings import VerifierSettings

    return {
        "edgeWorkerSettings": EdgeSettings,
        "verifierSettings": VerifierSettings,
        "policySettings": PolicySettings,
        "topicsSettings": TopicsSettings,
    }


def schema() -> str:
    """The schema of the values, with the definitions of today's settings."""
    document = json.loads(SCHEMA.read_text())
    environment = (CHART / "templates" / "_env.tpl").read_text()
    for name, cls in settings_classes().items():
        document["$defs"][name] = settings_schema(cls, set_by_chart(environment, str(cls.model_config.get("env_prefix"))))
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def set_by_chart(template: str, prefix: str) -> set[str]:
    """Settings with ``prefix`` that the template gives a value, in lower case."""
    return {name.lower() for name in re.findall(rf"(?:{{{{ \$prefix }}}}|{prefix})([A-Z_]+)\b", template)}


def settings_schema(cls: type[BaseSettings], taken: set[str]) -> dict[str, Any]:
    """What `config` may hold: the settings without secrets and without those that are ``taken``."""
    source = cls.model_json_schema()
    found = {}
    for name, field in cls.model_fields.items():
        if name in taken or name in _UNFIT or SecretStr.__name__ in str(field.annotation):
            continue
        found[name] = _plain(source["properties"][name], source.get("$defs", {})) | {"description": field.description or ""}
    return {"type": "object", "additionalProperties": False, "properties": found}


def _plain(part: Any, definitions: dict[str, Any]) -> Any:
    """Without references, and without what only Python needs."""
    if isinstance(part, list):
        return [_plain(item, definitions) for item in part]
    if not isinstance(part, dict):
        return part
    if "$ref" in part:
        return _plain(definitions[part["$ref"].rpartition("/")[2]], definitions)
    return {k: _plain(v, definitions) for k, v in part.items() if k not in ("title", "default", "format", "description")}


def readme() -> str:
    """The chart's page."""
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    text = (CHART / "values.yaml").read_text()
    head = _HEAD.format(description=chart["description"], kube=chart["kubeVersion"].removesuffix("-0"))
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    return head + "".join(_rows(root, "", text.splitlines()))


def _rows(node: yaml.MappingNode, path: str, lines: list[str]) -> Iterator[str]:
    for key, value in node.value:
        before = lines[key.start_mark.line - 1].strip()
        here = f"{path}{key.value}"
        if before.startswith(_MARK):
            shown = json.dumps(yaml.safe_load(yaml.serialize(value)), ensure_ascii=False)
            yield f"| `{here}` | `{shown}` | {before.removeprefix(_MARK).replace('|', '/')} |\n"
        elif isinstance(value, yaml.MappingNode):
            yield from _rows(value, here + ".", lines)
        else:
            raise ValueError(f"values.yaml: {here} has no comment that begins with {_MARK!r}")


if __name__ == "__main__":
    SCHEMA.write_text(schema())
    README.write_text(readme())
