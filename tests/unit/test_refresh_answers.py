"""The provider's answers on their way into the database: what is left of a run that was cut off, and taken up later."""

import contextlib
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdxsync.auth import answers, canonical, exchange, login, refresh, rotation
from cdxsync.auth.answers import Given
from cdxsync.auth.login import Life
from cdxsync.background import refreshing
from cdxsync.base import settings
from cdxsync.base.errors import Conflict, DatabaseAway, Failed
from cdxsync.jobs import schedule
from cdxsync.ops import homes, keys
from cdxsync.services import token_call
from cdxsync.store import named_values
from cdxsync.store.database import write
from cdxsync.store.fleet import Fleet
from tests.support.fleet import BASE_ENVIRONMENT
from tests.support.provider import Provider
from tests.support.together import until

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
OWNER = "machine:1:abcd"


@pytest.fixture
def opened(tmp_path: Path, provider: Provider) -> Iterator[Fleet]:
    """A fleet within this process, with a login that is due."""
    loaded = settings.load(tmp_path / "home", environ=BASE_ENVIRONMENT | provider.environment())
    homes.initialise(loaded)
    fleet = homes.open_fleet(loaded)
    with contextlib.closing(fleet.database), fleet.database.scope():
        exchange.upload(fleet, provider.login(life=0), host=None, actor="me")
        yield fleet


def token_of(fleet: Fleet) -> str:
    found = write(lambda: canonical.current(fleet))
    assert found is not None
    return str(refresh.tokens_of(found[1].content)["refresh_token"])


def outcomes() -> list[str | None]:
    return [intent.outcome for intent in reversed(refresh.last_intents())]


def left_in(fleet: Fleet) -> list[Path]:
    return list((fleet.settings.home / answers.FOLDER).iterdir())


def cut_off(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run whose answer cannot be stored: the database is away by then."""

    def away(*_: Any) -> bool:
        raise DatabaseAway("the database is away")

    with monkeypatch.context() as patch:
        patch.setattr(rotation, "keep", away)
        patch.setattr(refreshing, "_COMMIT_SECONDS", 0.0)
        with pytest.raises(DatabaseAway):
            refreshing.refresh_canonical(fleet, "scheduled", OWNER)


def test_an_answer_that_cannot_be_stored_now_is_stored_by_the_next_run(
    opened: Fleet, provider: Provider, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    before = token_of(opened)
    cut_off(opened, monkeypatch)
    assert (token_of(opened), outcomes()) == (before, [None])
    [folder] = left_in(opened)
    assert caplog.records[-1].levelno == logging.CRITICAL
    assert str(folder) in caplog.text
    refreshing.refresh_canonical(opened, "scheduled", "machine:2:ef01")
    assert provider.refreshes == 1
    assert provider.is_alive(token_of(opened))
    assert (outcomes(), left_in(opened)) == (["recovered"], [])


@pytest.mark.parametrize("behind", [7200, 3500])
def test_tokens_that_are_over_when_they_come_are_not_asked_for_without_end(
    opened: Fleet, provider: Provider, monkeypatch: pytest.MonkeyPatch, behind: int
) -> None:
    issue = provider._jwt
    monkeypatch.setattr(provider, "_jwt", lambda seed, account, begun, life: issue(seed, account, begun - behind, life))
    done = refreshing.refresh_canonical(opened, "scheduled", OWNER)
    assert "set the clock right" in str(done.error)
    assert done.wait == done.next_in == 5
    assert provider.is_alive(token_of(opened))
    assert (outcomes(), left_in(opened)) == (["stored"], [])


@pytest.mark.parametrize("body", [" " * (3 << 20), '{"access_token": "short"}'])
def test_an_answer_that_cannot_be_taken_may_have_spent_the_token(opened: Fleet, provider: Provider, body: str) -> None:
    provider.plan(status=200, body=body, taken=True)
    assert refreshing.refresh_canonical(opened, "scheduled", OWNER).error is not None
    assert outcomes() == ["lost"]


@pytest.mark.parametrize("access_token", [None, "short", "with a space in it, as no token has"])
def test_a_new_refresh_token_is_kept_though_no_access_token_came_with_it(
    opened: Fleet, provider: Provider, monkeypatch: pytest.MonkeyPatch, access_token: str | None
) -> None:
    """The one before it is spent: there is no other way to the login."""
    answered = provider.exchange

    def exchanged(body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        status, tokens = answered(body)
        return status, tokens | {"access_token": access_token}

    with monkeypatch.context() as patch:
        patch.setattr(provider, "exchange", exchanged)
        done = refreshing.refresh_canonical(opened, "scheduled", OWNER)
    assert "its new refresh token is stored" in str(done.error)
    assert "token" in str(done.error).partition(";")[0]
    assert done.wait == 5
    assert provider.is_alive(token_of(opened))
    assert (outcomes(), left_in(opened)) == (["stored"], [])
    assert refreshing.refresh_canonical(opened, "scheduled", OWNER).error is None
    assert provider.is_alive(token_of(opened))


def test_the_answer_of_a_login_that_was_replaced_is_dropped(
    opened: Fleet, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut_off(opened, monkeypatch)
    newer = provider.login()
    exchange.upload(opened, newer, host=None, actor="me")
    assert refreshing.take_up(opened) is None
    assert token_of(opened) == newer["tokens"]["refresh_token"]
    assert (outcomes(), left_in(opened)) == (["superseded"], [])


def test_an_older_answer_does_not_replace_a_later_refresh(
    opened: Fleet, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a provider that leaves the refresh token as it is, where the token tells nothing."""
    provider.rotates = False
    cut_off(opened, monkeypatch)
    provider.life = 7200
    [folder] = left_in(opened)
    kept = folder.rename(opened.settings.home / "kept")
    refreshing.refresh_canonical(opened, schedule.MANUAL, "elsewhere:1:abcd")
    later = write(lambda: canonical.current(opened))
    kept.rename(folder)
    refreshing.take_up(opened)
    assert write(lambda: canonical.current(opened)) == later
    assert outcomes() == ["superseded", "stored"]


def test_a_key_that_an_answer_needs_is_not_retired(
    opened: Fleet, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cut_off(opened, monkeypatch)
    old = opened.keyring.content().active
    keys.rotate(opened, actor="me", on_progress=lambda done, total: None)
    with pytest.raises(Conflict, match="cdxsync jobs run refresh"):
        keys.retire(opened, old, actor="me")
    refreshing.take_up(opened)
    keys.retire(opened, old, actor="me")


def test_a_call_that_was_not_begun_has_spent_nothing(opened: Fleet, provider: Provider) -> None:
    document = write(lambda: canonical.current(opened))
    assert document is not None
    with answers.folder_for(opened.settings.home, OWNER):
        rotation.begin(opened, document[1], OWNER)
    assert "refreshed" in (refreshing.refresh_canonical(opened, "scheduled", "machine:2:ef01").result)
    assert outcomes() == ["none", "stored"]
    assert provider.refreshes == 1


def foreign(fleet: Fleet) -> None:
    """A refresh that a server with another home has begun, and of which nothing has been heard."""
    found = write(lambda: canonical.current(fleet))
    assert found is not None
    refresh.intend(found[1].digest, "elsewhere:1:abcd")


def test_the_intent_of_another_machine_is_waited_for_while_the_token_is_fresh(
    opened: Fleet, provider: Provider
) -> None:
    login = provider.login(life=86400)
    exchange.upload(opened, login, host=None, actor="me")
    foreign(opened)
    # An API has refused it, and no refresh was made within the last minute.
    write(lambda: named_values.drop("refresh_begun"))
    outcome = refreshing.refresh_canonical(opened, rotation.REFUSED, OWNER)
    assert "elsewhere:1:abcd began a refresh and may still bring its answer" in outcome.result
    assert outcome.next_in == rotation.LOOK_SECONDS
    assert (provider.refreshes, outcomes()) == (0, [None])
    # An admin knows better.
    assert refreshing.refresh_canonical(opened, schedule.MANUAL, OWNER).error is None
    assert (provider.refreshes, outcomes()) == (1, ["lost", "stored"])


def test_the_intent_of_another_machine_is_not_waited_for_when_the_token_is_over(
    opened: Fleet, provider: Provider
) -> None:
    foreign(opened)
    assert refreshing.refresh_canonical(opened, "scheduled", OWNER).error is None
    assert (provider.refreshes, outcomes()) == (1, ["lost", "stored"])


def test_a_call_under_way_is_not_made_a_second_time(opened: Fleet, provider: Provider) -> None:
    with answers.folder_for(opened.settings.home, OWNER) as call:
        outcome = refreshing.refresh_canonical(opened, "scheduled", "machine:2:ef01")
        assert "has not come yet" in outcome.result
        assert outcome.next_in == 2.0
        call.drop()
    assert (provider.refreshes, outcomes()) == (0, [])


def test_an_altered_answer_counts_as_none(opened: Fleet, provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    cut_off(opened, monkeypatch)
    [folder] = left_in(opened)
    answer = folder / "answer"
    answer.write_text(answer.read_text()[:-8] + "AAAAAAA=")
    outcome = refreshing.refresh_canonical(opened, "scheduled", "machine:2:ef01")
    assert (outcome.error, outcomes()) == ("the answer to the call was altered", ["lost"])


def test_what_lies_about_in_the_folder_does_no_harm(opened: Fleet, provider: Provider) -> None:
    folder = opened.settings.home / answers.FOLDER
    (folder / "empty").mkdir(parents=True)
    (folder / ".unborn").mkdir()
    (folder / "file").write_text("x")
    os.utime(folder / ".unborn", (0, 0))
    assert refreshing.refresh_canonical(opened, "scheduled", OWNER).error is None
    assert [path.name for path in left_in(opened)] == ["file"]
    assert provider.refreshes == 1


def test_the_process_of_a_call_gets_no_secret_but_by_standard_input(
    opened: Fleet, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[tuple[list[str], dict[str, str]]] = []
    popen = subprocess.Popen

    def noted(command: list[str], **how: Any) -> Any:
        started.append((command, how["env"]))
        return popen(command, **how)

    monkeypatch.setenv("CDXSYNC_KEYRING", "secret of the server")
    monkeypatch.setenv("DASHBOARD_ADMIN_KEY", "secret of the server")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example.net:3128")
    monkeypatch.setattr(subprocess, "Popen", noted)
    spent = token_of(opened)
    refreshing.refresh_canonical(opened, "scheduled", OWNER)
    [(command, environment)] = started
    told = json.dumps([command, environment])
    assert spent not in told
    assert "secret of the server" not in told
    assert environment["HTTPS_PROXY"] == "http://proxy.example.net:3128"
    assert provider.refreshes == 1


def test_a_process_that_cannot_start_spends_nothing(
    opened: Fleet, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    with pytest.raises(Failed, match="cannot be started"):
        refreshing.refresh_canonical(opened, "scheduled", OWNER)
    assert (outcomes(), left_in(opened), provider.asked) == (["failed"], [], [])


def test_a_slow_answer_is_taken_up_later(opened: Fleet, provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    provider.plan(passes=True, hold=True)
    with monkeypatch.context() as patch:
        patch.setattr(token_call, "WAIT_SECONDS", 0.0)
        outcome = refreshing.refresh_canonical(opened, "scheduled", OWNER)
    assert (outcome.error, outcomes()) == (None, [None])
    assert provider.entered.wait(60)
    refreshing.take_up_at_start(opened)  # as the next process does
    provider.released.set()
    until(lambda: outcomes() == ["recovered"])
    assert provider.is_alive(token_of(opened))
    assert provider.refreshes == 1


def test_the_process_waits_for_room_on_the_disk(
    tmp_path: Path, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes: list[bytes] = []

    def full(path: Path, content: bytes) -> None:
        writes.append(content)
        if len(writes) < 3:
            raise OSError(28, "No space left on device")

    task = token_call.Task(url=provider.token_url, body={}, timeout=5, folder=str(tmp_path), intent=7, key=b"k" * 32)
    monkeypatch.setattr(token_call, "write_private", full)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    token_call.keep(task, Given(status=200, body=b"{}"))
    assert len(writes) == 3


def life(left: int, whole: int) -> Life:
    """A life of so many seconds, of which so many are left."""
    return Life(NOW + timedelta(seconds=left - whole), NOW + timedelta(seconds=left))


@given(st.integers(-3600, 864000), st.integers(0, 864000))
def test_another_machine_is_waited_for_as_long_as_the_token_is_fresh(left: int, whole: int) -> None:
    """Not longer: from then on no host gets a token without a refresh."""
    found = life(left, whole)
    again = login.spend_again_at(found)
    assert found.is_fresh(NOW) == (again > NOW)
    assert again <= found.expires
    assert not found.is_fresh(again)
    if again > NOW:
        assert found.is_fresh(again - timedelta(microseconds=1))
    if whole >= 1200:
        assert found.expires - again == timedelta(minutes=10)
