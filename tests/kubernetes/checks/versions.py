"""Edge workers and verifiers of two versions of the messages' schema work together, whichever is the newer."""

from __future__ import annotations

from services.common.messages import SCHEMA
from tests.kubernetes.images import NOW, OLDER
from tests.kubernetes.site import Figures, Site, verified

ANSWERS = 4


def mixed(site: Site, wrong: list[str]) -> Figures:
    figures: Figures = {}
    for edge, verifier in ((OLDER, NOW), (NOW, OLDER)):
        site.release.upgrade(
            edgeWorker={"image": {"tag": edge}}, verifier={"image": {"tag": verifier}, "replicas": 1}, policy={"replicas": 1}
        )
        for component in ("edge-worker", "verifier"):
            site.release.settled(component, 1)
        judged = unverified = 0
        for number in range(ANSWERS):
            account = site.ask(temperature=0.0, seed=number, extra_body={"sluice": {"gamma": 0}})["sluice"]
            judged += verified(account)
            unverified += account["tokens"]["unverified"]
        name = f"edge worker {_version(edge)}, verifier {_version(verifier)}"
        if not judged or unverified:
            wrong.append(f"{name}: {judged} tokens judged, {unverified} unverified")
        figures[name] = {"answers": ANSWERS, "judged_tokens": judged, "unverified_tokens": unverified}
    letters = site.prometheus.value("sum(sluice_dead_letters_total)") or 0
    if letters:
        wrong.append(f"{letters:.0f} dead letters")
    site.release.upgrade(edgeWorker={"image": {"tag": NOW}}, verifier={"image": {"tag": NOW}})
    return {**figures, "dead_letters": letters}


def _version(tag: str) -> int:
    return SCHEMA if tag == NOW else SCHEMA - 1
