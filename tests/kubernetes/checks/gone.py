"""`helm uninstall` leaves nothing of the release."""

from __future__ import annotations

from tests.kubernetes.release import NAMESPACE, RELEASE
from tests.kubernetes.shell import Failed, wait_until
from tests.kubernetes.site import Figures, Site

LABEL = f"app.kubernetes.io/instance={RELEASE}"


def uninstalled(site: Site, wrong: list[str]) -> Figures:
    """Also of kinds that are not in a namespace, and of what controllers made on its behalf."""
    kinds = _kinds(site)
    before = _left(site, kinds)
    if not before:
        raise Failed("there is nothing with the release's label to begin with")
    site.release.uninstall()
    try:
        wait_until("everything is gone", lambda: not _left(site, kinds), 120, 2)
    except Failed:
        wrong.extend(f"{name} is left" for name in _left(site, kinds))
    secrets = [s["metadata"]["name"] for s in site.kube.all("secrets", NAMESPACE) if s["type"] == "helm.sh/release.v1"]
    wrong.extend(f"Helm's {name} is left" for name in secrets)
    return {"objects_before": len(before), "objects_left": len(_left(site, kinds)), "kinds_searched": len(kinds)}


def _kinds(site: Site) -> list[str]:
    listed = site.kube.call("api-resources", "--verbs=list,delete", "-o", "name").split()
    return [kind for kind in listed if not kind.startswith("events")]


def _left(site: Site, kinds: list[str]) -> list[str]:
    return site.kube.call("get", ",".join(kinds), "-A", "-l", LABEL, "-o", "name", "--ignore-not-found").split()
