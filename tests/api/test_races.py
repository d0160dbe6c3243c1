"""Stores at the same time, from many threads over two server processes: the newest wins, whole."""

import functools
import random
import threading
from typing import Any

import pytest

from tests.support.documents import make_auth, with_auths
from tests.support.fleet import Fleet
from tests.support.together import at_once

pytestmark = pytest.mark.slow

ROUNDS = 12
THREADS = 16


@pytest.mark.every_engine
def test_the_newest_of_many_stores_at_once_is_canonical(fresh_fleet: Fleet) -> None:
    other = Fleet(fresh_fleet.home, env=fresh_fleet.env)
    ports = (fresh_fleet.port, other.port)
    other.start()
    try:
        keys = [fresh_fleet.key(f"host{number}.example.net") for number in range(THREADS)]
        documents = [
            [
                make_auth(f"2026-01-01T{turn:02}:00:{second:02}.{second}Z", f"{turn}/{second}")
                for second in range(THREADS)
            ]
            for turn in range(ROUNDS)
        ]
        for row in documents:
            random.Random(row[0]["last_refresh"]).shuffle(row)
        barrier = threading.Barrier(THREADS, timeout=60)
        canonical_after: list[Any] = []
        problems: list[Any] = []

        def host(number: int) -> None:
            with fresh_fleet.client(keys[number]) as client:
                for turn in range(ROUNDS):
                    client.url = f"https://localhost:{ports[(number + turn) % 2]}"
                    mine = documents[turn][number]
                    barrier.wait()
                    answer = client.auth(command="store", auth=mine).json()["data"]
                    known = [with_auths(document) for document in documents[turn]]
                    # What comes back is whole, and never older than what was sent.
                    if answer["auth"] not in known or answer["canonical_last_refresh"] < mine["last_refresh"]:
                        problems.append(answer)
                    barrier.wait()
                    if number == 0:
                        asked = client.auth(last_refresh="2000-01-01T00:00:00Z", digest="0" * 64).json()["data"]
                        canonical_after.append(asked["auth"])

        at_once(functools.partial(host, number) for number in range(THREADS))
    finally:
        other.stop()
    assert problems == []
    newest = [with_auths(max(row, key=lambda document: str(document["last_refresh"]))) for row in documents]
    assert canonical_after == newest
    assert fresh_fleet.canonical() == newest[-1]
    fresh_fleet.stop()


@pytest.mark.every_engine
def test_two_first_callers_bind_one_address(fleet: Fleet) -> None:
    import http.client
    import ssl

    key = fleet.key("bind.example.net")
    context = ssl.create_default_context(cafile=str(fleet.ca_file))
    addresses = [f"127.0.1.{number}" for number in range(1, 9)]
    barrier = threading.Barrier(len(addresses), timeout=60)
    statuses: list[int] = []

    def call(address: str) -> None:
        connection = http.client.HTTPSConnection("localhost", fleet.port, context=context, source_address=(address, 0))
        connection.connect()
        barrier.wait()
        connection.request("GET", "/wrapper", headers={"X-API-Key": key})
        statuses.append(connection.getresponse().status)
        connection.close()

    at_once(functools.partial(call, address) for address in addresses)
    assert sorted(statuses) == [200] + [403] * 7


@pytest.mark.every_engine
def test_registering_one_new_host_many_times_at_once(fleet: Fleet) -> None:
    barrier = threading.Barrier(8, timeout=60)
    answers: list[dict[str, Any]] = []

    def register() -> None:
        barrier.wait()
        answers.append(fleet.register("rush.example.net"))

    at_once([register] * 8)
    assert len({answer["host"]["id"] for answer in answers}) == 1
    working = 0
    for answer in answers:
        with fleet.client(answer["host"]["api_key"]) as client:
            working += client.call("GET", "/wrapper").status_code == 200
    assert working == 1


def test_a_rotated_key_neither_binds_nor_stores_any_more(fleet: Fleet) -> None:
    """Old and new key race from different addresses while the key is rotated: the new one's host always wins."""
    import http.client
    import ssl

    context = ssl.create_default_context(cafile=str(fleet.ca_file))
    name = "rotated.example.net"
    key = fleet.key(name)
    for turn in range(8):
        old = http.client.HTTPSConnection("localhost", fleet.port, context=context, source_address=("127.0.2.1", 0))
        old.connect()
        barrier = threading.Barrier(2, timeout=60)
        fresh: list[str] = []

        def call_with_the_old_key(connection: Any = old, waiting: Any = barrier, old_key: str = key) -> None:
            waiting.wait()
            connection.request("GET", "/wrapper", headers={"X-API-Key": old_key})
            connection.getresponse().read()
            connection.close()

        def rotate(waiting: Any = barrier, keys: Any = fresh) -> None:
            waiting.wait()
            keys.append(fleet.key(name))

        at_once([call_with_the_old_key, rotate])
        key = fresh[0]
        with fleet.client(key) as client:
            assert client.call("GET", "/wrapper").status_code == 200, turn
        assert fleet.host(name)["ip"] == "127.0.0.1"


@pytest.mark.every_engine
def test_what_is_known_of_a_host_never_lets_it_pass(fleet: Fleet) -> None:
    """A call passes by what its last one found; what has changed since counts all the same, at once."""
    import http.client
    import ssl

    data = fleet.register("known.example.net")
    context = ssl.create_default_context(cafile=str(fleet.ca_file))

    def call(key: str, address: str = "127.0.0.1") -> tuple[int, str]:
        connection = http.client.HTTPSConnection("localhost", fleet.port, context=context, source_address=(address, 0))
        connection.request("POST", "/usage", '{"total":1}', {"X-API-Key": key})
        response = connection.getresponse()
        text = response.read().decode()
        connection.close()
        return response.status, text

    key = data["host"]["api_key"]
    assert [call(key)[0] for _ in range(2)] == [200, 200]
    assert call(key, "127.0.3.1")[0] == 403
    fleet.cli("hosts", "disable", "known.example.net")
    assert "Host is disabled" in call(key)[1]
    fleet.cli("hosts", "enable", "known.example.net")
    assert [call(key)[0] for _ in range(2)] == [200, 200]
    for _ in range(2):
        fleet.cli("hosts", "unbind", "known.example.net")
        assert call(key)[0] == 200
        assert fleet.host("known.example.net")["ip"] == "127.0.0.1"
    fleet.cli("hosts", "unbind", "known.example.net")
    assert call(key, "127.0.3.1")[0] == 200  # which binds this one
    status, text = call(key)
    assert (status, "not allowed from this IP" in text) == (403, True)
    fresh = fleet.key("known.example.net")
    assert call(key, "127.0.3.1")[0] == 401
    assert call(fresh, "127.0.3.1")[0] == 200
    assert fleet.cli("logs", "--host", "known.example.net", check=False).stdout.count("access.refused") >= 2
