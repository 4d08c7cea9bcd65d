"""``python -m tests.kubernetes`` (``make test-cluster``): every check on a real cluster, figures into
``benchmarks/results/cluster.json``.

Ends with 1 where something was not as expected, with 2 where there is no cluster to try it on.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from tests.cluster.jars import Unavailable
from tests.kubernetes import cluster as clusters
from tests.kubernetes.checks import gone, install, observed, scaling, strangers, upheaval, versions
from tests.kubernetes.helm import program
from tests.kubernetes.images import CLIENT, OLDER, ROOT, TARGETS, Builder, archive, name
from tests.kubernetes.kube import Kube
from tests.kubernetes.load import NAMESPACE as CLIENTS
from tests.kubernetes.load import Client
from tests.kubernetes.outside import Outside
from tests.kubernetes.prometheus import Prometheus
from tests.kubernetes.release import Release
from tests.kubernetes.shell import Failed
from tests.kubernetes.site import Figures, Record, Site

RESULTS = ROOT / "benchmarks" / "results" / "cluster.json"
Check = Callable[[Site, list[str]], Figures]
SECURED: dict[str, Check] = {
    "secured Kafka: install": install.installed,
    "secured Kafka: answers": install.answers,
    "secured Kafka: lag is read by KEDA": scaling.lag_is_read,
    "secured Kafka: uninstall": gone.uninstalled,
}
PLAIN: dict[str, Check] = {
    "install": install.installed,
    "answers": install.answers,
    "images": install.images,
    "strangers": strangers.forbidden,
    "scraped, recorded, shown": observed.scraped,
    "policy": observed.steered,
    "1 -> 3 -> 1 verifiers": scaling.up_and_down,
    "verifier deleted": upheaval.deleted,
    "rolling update: verifier": upheaval.rolled("verifier"),
    "rolling update: edge worker": upheaval.rolled("edge-worker"),
    "rolling update: policy": upheaval.rolled("policy"),
    "helm upgrade": upheaval.upgraded,
    "helm rollback": upheaval.rolled_back,
    "two versions": versions.mixed,
    "alert": observed.alert,
    "uninstall": gone.uninstalled,
}


def _build(record: Record, cluster: clusters.Cluster, builder: Builder, folder: Path) -> None:
    for target in TARGETS:
        record.say(f"building the image {target}")
        builder.build(target)
    record.say("building the client's image, and those with the schema before")
    builder.client()
    for target in ("edge-worker", "verifier"):
        builder.older(target)
    record.say("bringing the images into the cluster")
    names = [*map(name, TARGETS), CLIENT, name("edge-worker", OLDER), name("verifier", OLDER)]
    packed = archive(names, folder)
    cluster.take(packed)
    packed.unlink()


def _checks(record: Record, cluster: clusters.Cluster, only: str, build: bool) -> None:
    builder = Builder(cluster.base)
    kube = Kube(cluster.environment)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sluice-cluster-")))
        if build:
            _build(record, cluster, builder, folder)
        outside = Outside(cluster.host, folder)
        stack.callback(outside.close)
        outside.start()
        kube.namespace(CLIENTS)
        release = Release(program(), kube, cluster, outside)
        client = Client(kube, "client", CLIENTS).start()
        site = Site(record, kube, builder, outside, release, Prometheus(kube), client)
        for secure, checks in ((True, SECURED), (False, PLAIN)):
            wanted = {label: check for label, check in checks.items() if re.search(only, label)}
            if not wanted:
                continue
            record.say(f"starting Kafka{', secured' if secure else ''}")
            outside.use_kafka(secure=secure)
            if next(iter(checks)) not in wanted:
                release.prepare()
                release.install()
            for label, check in wanted.items():
                record.run(label, partial(check, site))


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.kubernetes", description="The chart and the images on a real cluster"
    )
    parser.add_argument("--only", default="", help="only checks whose names this pattern finds (the release goes in first)")
    parser.add_argument("--no-build", action="store_true", help="the images are in the cluster already")
    parser.add_argument("--keep", action="store_true", help="leave the cluster running at the end, and use it if it runs")
    parser.add_argument("--load", default="", help="with KUBECONFIG: command that brings an image archive into that cluster")
    parser.add_argument("--host", default="", help="with KUBECONFIG: this machine's address as its pods see it")
    parser.add_argument("--output", type=Path, default=RESULTS, help="file for the figures")
    options = parser.parse_args()
    record = Record(options.output, [*SECURED, *PLAIN], sys.argv[1:])
    try:
        cluster = clusters.choose(options.load, options.host)
        if not (options.keep and cluster.running):
            record.say("starting the cluster (the first time its parts are built: a quarter of an hour)")
            cluster.start()
        try:
            _checks(record, cluster, options.only, not options.no_build)
        finally:
            if not options.keep:
                cluster.stop()
    except (Failed, Unavailable) as reason:
        print(f"test-cluster: {reason}", file=sys.stderr)  # noqa: T201
        return 2
    record.say(f"figures are in {options.output}")
    return 1 if record.failures else 0


if __name__ == "__main__":
    sys.exit(main())
