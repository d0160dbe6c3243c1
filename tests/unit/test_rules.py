"""Small rules of the domain, by table and by property."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdxsync.base import errors
from cdxsync.codex import versions
from cdxsync.hosts import admission, registry
from cdxsync.hosts.admission import AddressDecision
from cdxsync.security import addresses, apikeys


@pytest.mark.parametrize(
    ("bound", "caller", "roaming", "decision"),
    [
        (None, "192.0.2.1", False, AddressDecision.BIND),
        ("", "192.0.2.1", False, AddressDecision.BIND),
        ("192.0.2.1", "192.0.2.1", False, AddressDecision.KNOWN),
        ("192.0.2.1", "192.0.2.2", True, AddressDecision.ROAM),
        ("192.0.2.1", "192.0.2.2", False, AddressDecision.REFUSE),
    ],
)
def test_the_address_rule(bound: str | None, caller: str, roaming: bool, decision: AddressDecision) -> None:
    assert admission.decide_address(bound, caller, roaming=roaming) is decision


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("192.0.2.1", "192.0.2.1"),
        (" 192.0.2.1:5555 ", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("[::ffff:c000:201]:80", "192.0.2.1"),
        ("2001:DB8:0:0::1", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
    ],
)
def test_addresses_have_one_form(text: str, address: str) -> None:
    assert str(addresses.parse(text)) == address


@given(st.ip_addresses(v=4))
def test_mapped_addresses_equal_their_ipv4(address: ipaddress.IPv4Address) -> None:
    assert addresses.parse(f"::ffff:{address}") == address


PROXIES = (ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("fd00::/8"))


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("192.0.2.1", "198.51.100.1", "192.0.2.1"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "1.1.1.1, 198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "1.1.1.1, 198.51.100.1, 10.0.0.2, fd00::2", "198.51.100.1"),
        ("::ffff:10.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", ", 198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "198.51.100.1, ", "10.0.0.1"),
        ("10.0.0.1", "198.51.100.1, junk", "10.0.0.1"),
        ("10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3"),
    ],
)
def test_the_client_is_the_rightmost_untrusted_hop(peer: str, forwarded: str, client: str) -> None:
    assert str(addresses.client_address(peer, forwarded, PROXIES)) == client


@given(st.text())
def test_no_header_moves_an_untrusted_peer(forwarded: str) -> None:
    assert str(addresses.client_address("192.0.2.1", forwarded, PROXIES)) == "192.0.2.1"


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("rust-v0.63.0", "0.63.0"),
        ("codex-cli 0.63.0", "0.63.0"),
        ("Codex 1.2", "1.2"),
        (" v2.0 ", "2.0"),
        ("V2.0", "2.0"),
        ("0.63.0-alpha.1", "0.63.0-alpha.1"),
        ("rust-", None),
        ("  ", None),
    ],
)
def test_versions_are_normalised(text: str, version: str | None) -> None:
    assert versions.normalise(text) == version


def test_versions_are_ordered_by_number() -> None:
    texts = ["unknown", "0.9.0", "0.10.0-alpha.1", "0.10.0", "0.63.0", "1.0"]
    assert sorted(texts, key=versions.sort_key) == texts


@given(st.from_regex(r"[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?(\.[a-z]([a-z0-9-]{0,10}[a-z0-9])?){1,3}", fullmatch=True))
def test_host_names_are_taken_in_any_case(name: str) -> None:
    assert registry.check_fqdn(f" {name.upper()}. ") == name


@given(st.text())
def test_what_is_taken_as_a_host_name_is_safe_everywhere(text: str) -> None:
    try:
        name = registry.check_fqdn(text)
    except ValueError:
        return
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-.")
    assert len(name) <= 253


def test_keys_are_random_and_of_the_promised_form() -> None:
    keys = {apikeys.mint() for _ in range(100)}
    assert len(keys) == 100
    assert all(key.startswith("cdx_") and len(key) == 68 and int(key[4:], 16) for key in keys)


def all_errors(cls: type[errors.CdxsyncError]) -> list[type[errors.CdxsyncError]]:
    return [found for child in cls.__subclasses__() for found in (child, *all_errors(child))]


def test_every_error_has_a_status_and_an_exit_code() -> None:
    for cls in all_errors(errors.CdxsyncError):
        if cls is errors._Coded:  # a base, which is never raised
            continue
        kind = errors.kind_of(cls)
        assert 400 <= kind.http_status < 600
        assert 1 <= kind.exit_code <= 5
