"""The matrix: values under which the chart is rendered. The examples are part of it."""

from __future__ import annotations

from typing import Any

from services.cli.chart_files import CHART

Values = dict[str, Any]

KEDA_LOGIN = {"kafkaUsername": "keda", "kafkaPasswordSecret": {"name": "keda-login"}}
SECURE: Values = {
    "fullnameOverride": "hybrid",
    "imagePullSecrets": ["registry"],
    "commonLabels": {"team": "edge"},
    "global": {"imageRegistry": "registry.internal:5000/sluice"},
    "kafka": {
        "bootstrap": "a.kafka:9094, b.kafka:9095",
        "security": "sasl_ssl",
        "caSecret": {"name": "kafka-ca", "key": "root.pem"},
        "partitions": 16,
    },
    "redis": {"url": "rediss://redis:6390/0", "cluster": True, "caSecret": {"name": "redis-ca"}},
    "prometheus": {"url": "https://prometheus.internal"},
    "models": {
        "target": {"reference": f"owner/large@{'a' * 40}", "download": True},
        "draft": {"reference": f"owner/small@{'b' * 40}", "download": True},
        "hubTokenSecret": {"name": "hub"},
    },
    "topics": {
        "alter": True,
        "kafkaUsername": "operator",
        "existingSecret": "topics-login",
        "kafkaClientSecret": "topics-certificate",
        "config": {"retention_seconds": 7200, "partition_bytes": 2147483648},
    },
    "edgeWorker": {
        "kafkaUsername": "edge",
        "redisUsername": "edge-shop",
        "secretKeys": [{"setting": "kafka_password", "secret": "edge-login", "key": "password"}],
        "kafkaClientSecret": "edge-certificate",
        "apiKeysSecret": {"name": "api-keys"},
        "calibrationConfigMap": "calibration",
        "drainSeconds": 90.5,
        "gpu": {"enabled": True},
        "runtimeClassName": "nvidia",
        "image": {"digest": f"sha256:{'0' * 64}"},
        "podLabels": {"tier": "front"},
        "podAnnotations": {"note": "1"},
        "service": {"type": "LoadBalancer", "port": 8443, "annotations": {"note": "x"}},
        "ingress": {
            "enabled": True,
            "className": "nginx",
            "host": "ask.example.org",
            "tlsSecret": "ask-tls",
            "annotations": {"a": "b"},
        },
        "cache": {"existingClaim": "edge-models"},
        "config": {"k": 2, "wait_tokens": 20, "device_class": "phone"},
    },
    "verifier": {
        "kafkaUsername": "verifier",
        "redisUsername": "verifier",
        "existingSecret": "",
        "secretKeys": [
            {"setting": "master_keys", "secret": "masters", "key": "keys"},
            {"setting": "kafka_password", "secret": "verifier-login", "key": "password"},
        ],
        "drainSeconds": 45,
        "preStopSeconds": 2,
        "modelClaim": "models",
        "gpu": {"enabled": True, "count": 2},
        "affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}},
        "autoscaling": {"kind": "keda", "minReplicas": 2, "maxReplicas": 16, "keda": KEDA_LOGIN},
    },
    "policy": {"existingSecret": "policy-login", "redisUsername": "policy", "replicas": 3},
    "networkPolicy": {
        "clients": [{"ipBlock": {"cidr": "10.1.0.0/16"}}],
        "kafka": [{"ipBlock": {"cidr": "10.2.0.0/16"}}],
        "redis": [{"ipBlock": {"cidr": "10.3.0.0/16"}}],
        "redisPorts": [6390, 16390],
        "prometheus": [{"ipBlock": {"cidr": "10.4.0.1/32"}}],
    },
    "monitoring": {
        "podMonitors": True,
        "rules": True,
        "dashboards": True,
        "scrapeSeconds": 2,
        "labels": {"release": "prometheus"},
        "runbookBase": "https://runbooks.internal/",
    },
}
MATRIX: dict[str, list[Values | str]] = {
    "defaults": [],
    **{path.stem: [str(path)] for path in sorted((CHART / "examples").glob("*.yaml"))},
    "secure": [SECURE],
    "to-zero": [
        {"verifier": {"autoscaling": {"kind": "keda", "minReplicas": 0, "maxReplicas": 12, "keda": {"prometheus": False}}}}
    ],
    "zero-and-prometheus": [{"verifier": {"autoscaling": {"kind": "keda", "minReplicas": 0, "maxReplicas": 12}}}],
    "hpa": [
        {
            "verifier": {"autoscaling": {"kind": "hpa", "minReplicas": 2, "maxReplicas": 4}},
            "edgeWorker": {"config": {"tau_u": 0.5, "risk": 0.7}},
            "policy": {"config": {"risk": 0.6}},
        }
    ],
    "edges-only": [
        {
            "edgeWorker": {"kind": "DaemonSet", "nodeSelector": {"edge": "yes"}},
            "verifier": {"enabled": False},
            "policy": {"enabled": False},
        }
    ],
    "verifiers-only": [{"edgeWorker": {"enabled": False}, "policy": {"enabled": False}, "models": {"preset": "qwen2.5-7b"}}],
    "without-models": [{"models": {"target": {"reference": "synthetic"}, "draft": {"reference": "synthetic"}}}],
}
# What a cluster without network policies, or without rights to cluster-wide objects, has; only the schemas look at it.
BARE: Values = {"networkPolicy": {"enabled": False}, "priorityClasses": {"create": False}, "topics": {"create": False}}
