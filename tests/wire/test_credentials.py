"""Signatures: what is accepted, what is refused and why, and that nothing shows a key."""

from __future__ import annotations

import secrets

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.credentials import (
    HEADER,
    WORKER_CHARACTERS,
    AuthError,
    Credential,
    CredentialError,
    Identity,
    Keyring,
    Signer,
    masters_text,
    new_master,
    parse_masters,
    parse_revoked,
)
from services.edge_worker.identity import signer, worker_name

MASTERS = {1: new_master(), 2: new_master()}
KEY, VALUE = secrets.token_bytes(16), b"value"


def issue(group: str = "shop", tenant: str = "", key_id: int = 1) -> Credential:
    return Credential.issue(MASTERS, key_id, group, tenant)


@pytest.mark.parametrize("worker", ["shop", "shop.1", "shop." + "x" * 16])
@pytest.mark.parametrize("tenant", ["", "acme", "a@b.example-1"])
def test_who_signed_is_known(worker: str, tenant: str) -> None:
    signing = Signer(Credential.parse(issue(tenant=tenant).text()), worker)
    ring = Keyring(parse_masters(masters_text(MASTERS)))
    for _ in range(2):  # derived, and from the cache
        assert ring.verify(signing.headers(KEY, VALUE), KEY, VALUE) == Identity(worker, tenant)
    assert len(signing.header(KEY, VALUE)) == 12 + len(worker) + len(tenant)


def test_keys_rotate_and_groups_are_revoked() -> None:
    old, new = Signer(issue(key_id=1), "shop"), Signer(issue(key_id=2), "shop")
    both = Keyring(MASTERS)
    for signing in (old, new):
        assert both.verify(signing.headers(KEY, VALUE), KEY, VALUE).worker == "shop"
    only_new = Keyring({2: MASTERS[2]})
    with pytest.raises(AuthError, match="master key 1, which this verifier does not have"):
        only_new.verify(old.headers(KEY, VALUE), KEY, VALUE)
    stolen = Keyring(MASTERS, parse_revoked("1:shop, other"))
    with pytest.raises(AuthError, match="group shop is revoked"):
        stolen.verify(old.headers(KEY, VALUE), KEY, VALUE)
    assert stolen.verify(new.headers(KEY, VALUE), KEY, VALUE).worker == "shop"
    with pytest.raises(AuthError, match="revoked"):
        Keyring(MASTERS, ["shop"]).verify(new.headers(KEY, VALUE), KEY, VALUE)


def test_a_signature_is_good_for_one_message_of_one_worker() -> None:
    ring = Keyring(MASTERS)
    header = Signer(issue(tenant="acme"), "shop.1").header(KEY, VALUE)
    forged = {
        "value": ([(HEADER, header)], KEY, VALUE + b"!"),
        "key": ([(HEADER, header)], b"k" * 16, VALUE),
        "border": ([(HEADER, header)], KEY + VALUE[:1], VALUE[1:]),
        "worker": ([(HEADER, header.replace(b"shop.1", b"shop.2"))], KEY, VALUE),
        "tenant": ([(HEADER, header.replace(b"acme", b"acmf"))], KEY, VALUE),
        "no tenant": ([(HEADER, header.removesuffix(b"acme"))], KEY, VALUE),
        "key id": ([(HEADER, b"\2" + header[1:])], KEY, VALUE),
    }
    for headers, key, value in forged.values():
        with pytest.raises(AuthError, match="a wrong signature"):
            ring.verify(headers, key, value)
    moved = bytearray(header)
    moved[11] += 1  # the border between worker and tenant
    with pytest.raises(AuthError):
        ring.verify([(HEADER, bytes(moved))], KEY, VALUE)
    for headers, told in (([], "not signed"), ([("b", header)], "not signed"), ([(HEADER, header)] * 2, "more than once")):
        with pytest.raises(AuthError, match=told):
            ring.verify(headers, KEY, VALUE)


@given(st.binary(max_size=80))
def test_junk_is_refused_and_nothing_else_happens(data: bytes) -> None:
    ring = Keyring(MASTERS)
    with pytest.raises(AuthError):
        ring.verify([(HEADER, data)], KEY, VALUE)
    assert not ring._known, "junk takes no memory"


def test_a_worker_of_the_group_cannot_be_another_group() -> None:
    for worker in ("", "shops", "shop2.1", "shop.", "shop." + "x" * WORKER_CHARACTERS, "shop.{a}", "shop. 1"):
        with pytest.raises(CredentialError, match=r"must read shop or shop\.NAME"):
            Signer(issue(), worker)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "not a credential"),
        ("hello", "not a credential"),
        ("sluice9:1:shop::abc", "not a credential"),
        ("sluice1:0:shop::abc", "a number from 1 to 255"),
        ("sluice1:1:::abc", "a group has"),
        ("sluice1:1:shop:a b:abc", "a tenant has"),
        ("sluice1:1:shop::abc", "was it cut off"),
        ("sluice1:1:shop::!!!", "not base64url"),
    ],
)
def test_a_bad_credential_is_told(text: str, told: str) -> None:
    with pytest.raises(CredentialError, match=told) as caught:
        Credential.parse(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "no master key"),
        ("abcdef", "ID:HEX"),
        ("256:00", "from 1 to 255"),
        ("1:zz", "not hexadecimal"),
        ("1:00", "1 bytes, not 32"),
        (f"1:{'00' * 32},1:{'11' * 32}", "given twice"),
    ],
)
def test_bad_master_keys_are_told(text: str, told: str) -> None:
    with pytest.raises(CredentialError, match=told) as caught:
        parse_masters(text)
    assert "zz" not in str(caught.value)


def test_secrets_do_not_show() -> None:
    credential = issue(tenant="acme")
    secret = credential.text().rsplit(":", 1)[1]
    for shown in (repr(credential), str(credential)):
        assert secret not in shown
        assert credential.key.hex() not in shown
        assert repr(credential.key) not in shown


def test_a_tenant_that_is_bound_stands_and_one_that_is_named_stays_in_its_group() -> None:
    bound, free = Identity("shop.1", "acme"), Identity("shop.1", "")
    assert bound.effective_tenant("other") == "acme"
    assert free.effective_tenant("acme") == "shop/acme"
    assert bound.owns("acme")
    assert not bound.owns("shop/acme")
    assert free.owns("shop/acme")
    assert not free.owns("acme")
    assert not Identity("sho", "").owns("shop/acme")
    assert bound.tag != free.tag


@pytest.mark.parametrize(
    ("wanted", "name"),
    [
        ("shop", "shop"),
        ("shop.7", "shop.7"),
        ("edge-1", "shop.edge-1"),
        ("sluice-edge-worker-7d9f8c6b5-abcde", "shop.sluice--"),
        ("shop." + "y" * 40, "shop.yyyyyyy-"),
        ("", "shop."),
    ],
)
def test_what_a_worker_is_called(wanted: str, name: str) -> None:
    called = worker_name("shop", wanted)
    assert called.startswith(name)
    assert len(called) <= len("shop.") + 16
    assert signer(issue().text(), wanted).worker.startswith(name)
    if wanted:
        assert called == worker_name("shop", wanted)
    else:
        assert called != worker_name("shop", wanted)
