"""What needs no server: keys, models and ports."""

from __future__ import annotations

from collections.abc import Callable

from services.cli.doctor.line import Line
from services.cli.errors import CommandError
from services.cli.local.ports import require_free
from services.common import synthetic
from services.common.credentials import Credential, CredentialError, parse_masters
from services.common.lm import presets, reference
from services.common.lm.errors import ModelError
from services.edge_worker.settings import EdgeSettings
from services.verifier.settings import VerifierSettings


def edge_lines(settings: EdgeSettings) -> list[Line]:
    lines = [_model("edge", "draft model", lambda: settings.draft or presets.preset(settings.preset).draft)]
    credential = Credential.parse(settings.credential.get_secret_value())
    bound = f"tenant {credential.tenant}" if credential.tenant else "no tenant bound"
    lines.append(Line.of("edge", "credential", "", f"group {credential.group}, {bound}, master key {credential.key_id}"))
    lines.append(_port("edge", "SLUICE_EDGE_PORT", settings.host, settings.port))
    return lines


def verifier_lines(settings: VerifierSettings) -> list[Line]:
    masters = parse_masters(settings.master_keys.get_secret_value())
    return [
        _model("verifier", "target model", lambda: settings.model),
        Line.of("verifier", "master keys", "", f"ids {', '.join(map(str, sorted(masters)))}"),
        _port("verifier", "SLUICE_VERIFIER_METRICS_PORT", settings.metrics_host, settings.metrics_port),
    ]


def pair_lines(edge: EdgeSettings, verifier: VerifierSettings) -> list[Line]:
    """Whether the two belong together."""
    credential = Credential.parse(edge.credential.get_secret_value())
    masters = parse_masters(verifier.master_keys.get_secret_value())
    return [Line.of("both", "the verifier takes the credential of the edge", _foreign(credential, masters, verifier.revoked))]


def _foreign(credential: Credential, masters: dict[int, bytes], revoked: str) -> str:
    try:
        issued = Credential.issue(masters, credential.key_id, credential.group, credential.tenant)
    except CredentialError as error:
        return f"{error}: give the verifier that key, or the edge another credential"
    if issued != credential:
        again = f"`sluice keys worker {credential.group}` makes one that fits"
        return f"it was made with another master key of the number {credential.key_id}: {again}"
    entries = {entry.strip() for entry in revoked.split(",")}
    if entries & {credential.group, f"{credential.key_id}:{credential.group}"}:
        return f"group {credential.group} is in SLUICE_VERIFIER_REVOKED: give the edge another credential"
    return ""


def _model(service: str, what: str, name: Callable[[], str]) -> Line:
    try:
        chosen = name()
        return Line.of(service, what, "", chosen if synthetic.is_synthetic(chosen) else reference.resolve(chosen))
    except ModelError as error:
        return Line.of(service, what, str(error))


def _port(service: str, variable: str, host: str, port: int) -> Line:
    what = f"port {port or 'of its choice'} on {host}"
    if not port:
        return Line.of(service, what, "")
    try:
        require_free(host, port)
    except CommandError as error:
        cause = str(error).partition(";")[0]
        return Line.of(service, what, f"{cause} (by the service itself, if it runs): else choose another by {variable}")
    return Line.of(service, what, "")
