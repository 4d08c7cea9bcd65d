"""Settings of the link to Kafka: contradictions are refused, secrets are not shown."""

from __future__ import annotations

from pathlib import Path

import pytest
import trustme

from services.common.kafka.link import KafkaLink, client_options
from services.common.settings import ConfigError, load
from services.edge_worker.settings import EdgeSettings
from services.verifier.settings import VerifierSettings

LOGIN = {"kafka_security": "sasl_ssl", "kafka_username": "u", "kafka_password": "hunter2"}


@pytest.mark.parametrize(
    ("knobs", "expected"),
    [
        ({"kafka_security": "sasl_ssl"}, "needs KAFKA_USERNAME and KAFKA_PASSWORD"),
        ({"kafka_username": "u"}, "need a login"),
        ({**LOGIN, "kafka_security": "sasl_plaintext", "kafka_mechanism": "PLAIN"}, "sends the password as it is"),
        ({"kafka_ca_file": "/ca.pem"}, "need TLS"),
        ({"kafka_security": "ssl", "kafka_key_file": "/key.pem"}, "without KAFKA_CERT_FILE"),
        ({**LOGIN, "embedded": True}, "neither TLS nor logins"),
        ({"kafka_security": "ssl", "kafka_ca_file": "/nowhere.pem"}, "SLUICE_EDGE_KAFKA_CA_FILE: /nowhere.pem"),
        ({"kafka_bootstrap": "broker:9092,other:x"}, "'other:x' is not host:port"),
        ({"kafka_bootstrap": " , "}, "say host:port"),
        ({"kafka_security": "tls"}, "SLUICE_EDGE_KAFKA_SECURITY"),
    ],
)
def test_what_cannot_work_is_refused_in_one_line(knobs: dict[str, object], expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(EdgeSettings, **knobs)
    said = str(caught.value)
    assert expected in said
    assert "\n" not in said
    assert "hunter2" not in said


def test_a_file_that_is_no_certificate_is_named(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("not a certificate")
    with pytest.raises(ConfigError, match=r"ca\.pem is no authority's PEM file"):
        load(VerifierSettings, kafka_security="ssl", kafka_ca_file=str(tmp_path / "ca.pem"))


def test_the_client_s_own_certificate_is_loaded(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    authority.issue_cert("client").private_key_and_cert_chain_pem.write_to_path(tmp_path / "client.pem")
    link = KafkaLink("b:1", "ssl", ca_file=str(tmp_path / "ca.pem"), cert_file=str(tmp_path / "client.pem"))
    assert client_options(link)["ssl_context"].get_ca_certs()
    with pytest.raises(ConfigError, match="no certificate and key"):
        client_options(KafkaLink("b:1", "ssl", cert_file=str(tmp_path / "ca.pem")))


def test_options_of_a_client() -> None:
    link = load(EdgeSettings, kafka_bootstrap="a:1, [::1]:2,c", **LOGIN).kafka_link
    options = client_options(link)
    assert options["bootstrap_servers"] == ["a:1", "[::1]:2", "c:9092"]
    assert (options["security_protocol"], options["sasl_mechanism"]) == ("SASL_SSL", "SCRAM-SHA-512")
    assert (options["sasl_plain_username"], options["sasl_plain_password"]) == ("u", "hunter2")
    assert client_options(KafkaLink("a:1")) == {"bootstrap_servers": ["a:1"], "security_protocol": "PLAINTEXT"}


def test_the_password_is_not_shown() -> None:
    settings = load(EdgeSettings, **LOGIN)
    assert "hunter2" not in repr(settings) + str(settings) + repr(settings.kafka_link) + settings.model_dump_json()
