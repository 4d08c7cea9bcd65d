"""The release comes up under the default network policies, and answers; its images run as nobody, read-only."""

from __future__ import annotations

import json
import time

from tests.kubernetes.images import NOW, TARGETS, labels, name
from tests.kubernetes.release import COMPONENTS, NAMESPACE
from tests.kubernetes.site import Figures, Site, verified

POLICY_MB = 150.0
# Who this is, what it may do, and whether it can write beside the folders that are meant for it.
_WHO = """
import errno, importlib.util, json, os
status = dict(line.split(":", 1) for line in open("/proc/1/status"))
try:
    open("/opt/sluice/probe", "w")
    root = "writable"
except OSError as error:
    root = errno.errorcode[error.errno]
print(json.dumps({
    "uid": int(status["Uid"].split()[0]), "capabilities": int(status["CapEff"], 16), "bounding": int(status["CapBnd"], 16),
    "no_new_privileges": int(status["NoNewPrivs"]), "root": root,
    "packages": [n for n in ("torch", "pip") if importlib.util.find_spec(n)],
}))
"""


def installed(site: Site, wrong: list[str]) -> Figures:
    site.release.prepare()
    began = time.monotonic()
    site.release.install()
    seconds = time.monotonic() - began
    pods = {component: len(site.release.pods(component)) for component in COMPONENTS}
    wrong.extend(f"{count} pods of {component} are ready" for component, count in pods.items() if count != 1)
    site.release.test()
    return {"install_seconds": seconds, "ready_pods": pods, "helm_test": "passed"}


def answers(site: Site, wrong: list[str]) -> Figures:
    """OpenAI's client streams an answer through the Service, and its account says that a verifier judged it."""
    began = time.monotonic()
    found = site.ask(temperature=0.0, extra_body={"sluice": {"gamma": 0}})
    account = found["sluice"]
    if not found["text"].strip():
        wrong.append("the answer has no text")
    if verified(account) == 0:
        wrong.append(f"no verifier judged a token: {account}")
    if found["chunks"] < 3:
        wrong.append(f"{found['chunks']} chunks are no stream")
    lossless = site.ask(temperature=0.0, extra_body={"sluice": {"mode": "lossless", "k": 4}})["sluice"]
    if lossless["lossless"] is not True:
        wrong.append(f"a lossless answer says {lossless['lossless']}")
    return {
        "seconds": time.monotonic() - began,
        "tokens": account["tokens"],
        "rounds": account["rounds"],
        "chunks": found["chunks"],
    }


def images(site: Site, wrong: list[str]) -> Figures:
    above = {target: site.builder.above_base_mb(target) for target in TARGETS}
    if above["policy"] >= POLICY_MB:
        wrong.append(f"the policy image adds {above['policy']:.0f} MB to its base")
    figures: Figures = {"mb_above_base": above, "running": {}}
    for component in COMPONENTS:
        pod = site.release.pod(component)
        found = json.loads(site.kube.exec(pod, NAMESPACE, "python", "-", stdin=_WHO))
        figures["running"][component] = found
        if found["uid"] != 10001 or found["capabilities"] or found["bounding"] or not found["no_new_privileges"]:
            wrong.append(f"{component} runs as {found}")
        if found["root"] != "EROFS":
            wrong.append(f"the root of {component} is not read-only: {found['root']}")
        unwanted = [package for package in found["packages"] if package == "pip" or component == "policy"]
        if unwanted:
            wrong.append(f"{component} has {unwanted}")
        missing = {"title", "version", "revision", "licenses", "description"} - {
            key.rpartition(".")[2] for key in labels(name(component, NOW))
        }
        if missing:
            wrong.append(f"{component} has no labels {sorted(missing)}")
    return figures
