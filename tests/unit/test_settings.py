"""Settings: where a value comes from, and what is said of a wrong one."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdxsync.base import settings
from cdxsync.base.errors import SettingError
from cdxsync.base.settings import Listen
from tests.support.fleet import run_cli


def load(home: Path, text: str = "", **kwargs: Any) -> settings.Settings:
    home.mkdir(exist_ok=True)
    (home / "config.toml").write_text(text)
    return settings.load(home, environ=kwargs.pop("environ", {}), **kwargs)


def test_flags_beat_environment_beats_file_beats_default(tmp_path: Path) -> None:
    assert load(tmp_path).threads == 16
    assert load(tmp_path, "threads = 3").threads == 3
    assert load(tmp_path, "threads = 3", environ={"CDXSYNC_THREADS": "4"}).threads == 4
    assert load(tmp_path, "threads = 3", environ={"CDXSYNC_THREADS": "4"}, flags={"threads": 5}).threads == 5
    assert load(tmp_path, "threads = 3", flags={"threads": None}).threads == 3


@pytest.mark.parametrize(
    ("text", "environ", "says"),
    [
        ("thread = 3", {}, ["config.toml", "unknown setting 'thread'", "did you mean 'threads'"]),
        ("", {"CDXSYNC_THREAD": "3"}, ["CDXSYNC_THREAD", "did you mean 'CDXSYNC_THREADS'"]),
        ("threads = 0", {}, ["config.toml", "threads", "from 1 to 1024"]),
        ("threads = true", {}, ["threads", "whole number"]),
        ("threads = 1.5", {}, ["threads", "whole number"]),
        ("", {"CDXSYNC_THREADS": "many"}, ["environment variable CDXSYNC_THREADS", "whole number"]),
        ('plain_http = "maybe"', {}, ["plain_http", "true or false"]),
        ('listen = "8443"', {}, ["listen", "HOST:PORT"]),
        ('listen = "a:99999"', {}, ["listen", "HOST:PORT"]),
        ('public_url = "cdx.example.net"', {}, ["public_url", "https://"]),
        ('public_url = "https://a b"', {}, ["public_url"]),
        ('public_url = "https://[1::2::3]"', {}, ["public_url must be a URL such as"]),
        ('public_url = "https://user:pw@a"', {}, ["public_url"]),
        ('public_url = "https://a/\';rm"', {}, ["public_url"]),
        ('trusted_proxies = ["10.0.0.1/8"]', {}, ["trusted_proxies", "10.0.0.1/8"]),
        ('trusted_proxies = ["ten"]', {}, ["trusted_proxies", "'ten' is not a network"]),
        ("threads =", {}, ["config.toml", "TOML"]),
        ('tls_key = "/x"', {}, ["tls_certificate and tls_key"]),
        ("threads = 0\nnope = 1", {}, ["threads", "nope"]),
    ],
)
def test_wrong_settings_are_named(tmp_path: Path, text: str, environ: dict[str, str], says: list[str]) -> None:
    with pytest.raises(SettingError) as caught:
        load(tmp_path, text, environ=environ)
    for part in says:
        assert part in caught.value.message


def test_a_named_configuration_must_exist(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="no such configuration file"):
        settings.load(tmp_path, config=tmp_path / "none.toml", environ={})


def test_secrets_are_not_shown(tmp_path: Path) -> None:
    loaded = load(
        tmp_path, environ={"DASHBOARD_ADMIN_KEY": "open sesame, wide", "CDXSYNC_DATABASE_URL": "sqlite:///pass.db"}
    )
    assert loaded.dashboard_admin_key == "open sesame, wide"
    assert "sesame" not in repr(loaded)
    assert "pass.db" not in repr(loaded)


@pytest.mark.parametrize(
    ("text", "listen"),
    [
        ("0.0.0.0:8443", Listen("0.0.0.0", 8443)),
        (":80", Listen("0.0.0.0", 80)),
        ("[::1]:0", Listen("::1", 0)),
        ("cdx-1.example.net:443", Listen("cdx-1.example.net", 443)),
    ],
)
def test_listen(text: str, listen: Listen) -> None:
    assert settings.read_listen(text) == listen


@given(st.ip_addresses(), st.integers(0, 65535))
def test_listen_round_trips(address: Any, port: int) -> None:
    listen = Listen(str(address), port)
    if not getattr(address, "scope_id", None):
        assert settings.read_listen(str(listen)) == listen


@given(st.text())
def test_urls_have_nothing_that_a_shell_reads(text: str) -> None:
    try:
        url = settings.read_base_url("https://a" + text)
    except ValueError:
        return
    assert not set(url) & set(" \t\n\"'`$;&|<>(){}\\!*?#~") - {"~"}


def test_every_setting_has_help_and_a_variable_of_its_own() -> None:
    specs = [spec for spec in dataclasses.fields(settings.Settings) if spec.metadata]
    assert all(spec.metadata["help"].endswith(".") for spec in specs)
    assert len({spec.metadata["env"] for spec in specs}) == len(specs)


def test_the_command_line_says_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("listn = ':1'\n")
    done = run_cli("--home", str(tmp_path), "init", check=False)
    assert done.returncode == 2
    assert "unknown setting 'listn' (did you mean 'listen'?)" in done.stderr
    assert list(tmp_path.iterdir()) == [tmp_path / "config.toml"]
    done = run_cli("--home", str(tmp_path), "--config", "/nonexistent.toml", "init", check=False)
    assert done.returncode == 2
    assert "/nonexistent.toml" in done.stderr
