"""Every setting, declared once: name, type, default, environment variable and help.

A value comes from the first of: command-line flag, environment, the TOML file, default.
"""

import difflib
import os
import shlex
import sys
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import platformdirs

from cdxsync.base.errors import SettingError
from cdxsync.base.setting_values import (
    Listen,
    Network,
    read_admin_key,
    read_base_url,
    read_bool,
    read_choice,
    read_int,
    read_listen,
    read_networks,
    read_origins,
    read_path,
    read_price,
    read_private_url,
    read_seconds,
    read_syslog,
    read_text,
)
from cdxsync.base.users import name_of

__all__ = ["Listen", "Settings", "default_home", "load", "read_base_url", "read_bool", "read_listen"]

CONFIG_NAME = "config.toml"
ENV_PREFIX = "CDXSYNC_"
SERVICE_HOME = Path("/var/lib/cdxsync")
_OUTSIDE_TABLE = {"CDXSYNC_HOME", "CDXSYNC_CONFIG"}


def _setting(default: Any, env: str, read: Callable[[object], Any], help_text: str, *, secret: bool = False) -> Any:
    metadata = {"env": env, "read": read, "help": help_text, "secret": secret}
    return field(default=default, metadata=metadata, repr=not secret)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All settings of one server. `home` is its state directory; it comes from `--home` alone."""

    home: Path
    public_url: str = _setting(
        "",
        "PUBLIC_BASE_URL",
        read_base_url,
        "Base URL at which hosts reach the server; fixed at init, default: this machine's name.",
    )
    listen: Listen = _setting(
        Listen("0.0.0.0", 8443),  # noqa: S104 - a server for a fleet
        "CDXSYNC_LISTEN",
        read_listen,
        "Address and port to listen on, HOST:PORT.",
    )
    plain_http: bool = _setting(
        False, "CDXSYNC_PLAIN_HTTP", read_bool, "Serve HTTP without TLS, behind a proxy that terminates it."
    )
    trusted_proxies: tuple[Network, ...] = _setting(
        (), "CDXSYNC_TRUSTED_PROXIES", read_networks, "Networks of proxies whose X-Forwarded-For and X-mTLS-* count."
    )
    proxy_serial_required: bool = _setting(
        False,
        "CDXSYNC_PROXY_SERIAL_REQUIRED",
        read_bool,
        "Whether admins are refused whose proxy sends no X-mTLS-Serial, once a certificate has been revoked.",
    )
    threads: int = _setting(
        16,
        "CDXSYNC_THREADS",
        read_int(1, 1024),
        "Threads per process that answer requests; up to 4 times as many while clients send slowly.",
    )
    workers: int = _setting(1, "CDXSYNC_WORKERS", read_int(1, 64), "Server processes.")
    max_connections: int = _setting(
        4096, "CDXSYNC_MAX_CONNECTIONS", read_int(16, 1_000_000), "Connections that a process holds at the same time."
    )
    max_connections_per_ip: int = _setting(
        1024,
        "CDXSYNC_MAX_CONNECTIONS_PER_IP",
        read_int(0, 1_000_000),
        "Connections of one address that a process holds at the same time, trusted proxies excepted; 0 is off.",
    )
    access_log: str = _setting(
        "plain",
        "CDXSYNC_ACCESS_LOG",
        read_choice("off", "plain", "json"),
        "Access log, a line per request: off, plain or json.",
    )
    metrics_allow: tuple[Network, ...] = _setting(
        (),
        "CDXSYNC_METRICS_ALLOW",
        read_networks,
        "Networks that may read /metrics without a client certificate.",
    )
    database_url: str = _setting(
        "",
        "CDXSYNC_DATABASE_URL",
        read_text,
        "Database: sqlite:///PATH, postgresql://USER:PASSWORD@HOST/NAME or mysql://USER:PASSWORD@HOST/NAME; default:"
        " the SQLite file cdxsync.db in the home.",
        secret=True,
    )
    database_pool_size: int = _setting(
        8,
        "CDXSYNC_DATABASE_POOL_SIZE",
        read_int(1, 1000),
        "Connections to PostgreSQL or MySQL that a process reads with; it writes with one more.",
    )
    keyring: str = _setting(
        "",
        "CDXSYNC_KEYRING",
        read_text,
        "Text of the keyring, instead of keyring.json or a systemd credential.",
        secret=True,
    )
    dashboard_admin_key: str = _setting(
        "",
        "DASHBOARD_ADMIN_KEY",
        read_admin_key,
        "Key that /admin/* needs besides the client certificate; at least 16 bytes.",
        secret=True,
    )
    dashboard_origins: tuple[str, ...] = _setting(
        (),
        "CDXSYNC_DASHBOARD_ORIGINS",
        read_origins,
        "Further origins at which admins open the dashboard, such as https://admin.example.net: behind a proxy with"
        " another name than public_url, or through a tunnel.",
    )
    token_min_length: int = _setting(
        24, "TOKEN_MIN_LENGTH", read_int(8, 4096), "Minimum length of a token in an auth document, in bytes."
    )
    install_token_ttl_seconds: int = _setting(
        1800, "INSTALL_TOKEN_TTL_SECONDS", read_int(1, 30 * 86400), "Lifetime of an installer, in seconds."
    )
    max_body_bytes: int = _setting(
        1 << 20, "CDXSYNC_MAX_BODY_BYTES", read_int(1024, 1 << 30), "Largest request body, in bytes."
    )
    payload_history: int = _setting(
        20, "CDXSYNC_PAYLOAD_HISTORY", read_int(1, 10000), "Number of accepted auth documents to keep."
    )
    max_prompt_bytes: int = _setting(
        256 * 1024, "CDXSYNC_MAX_PROMPT_BYTES", read_int(1024, 1 << 24), "Largest slash-command prompt, in bytes."
    )
    max_prompts: int = _setting(
        1000, "CDXSYNC_MAX_PROMPTS", read_int(0, 1_000_000), "Number of slash-command prompts; 0 is no bound."
    )
    max_prompts_bytes: int = _setting(
        16 << 20,
        "CDXSYNC_MAX_PROMPTS_BYTES",
        read_int(0, 1 << 40),
        "Size of all slash-command prompts together, in bytes; 0 is no bound.",
    )
    prompt_bytes_per_day: int = _setting(
        16 << 20,
        "CDXSYNC_PROMPT_BYTES_PER_DAY",
        read_int(0, 1 << 40),
        "Bytes of prompts that a host may store in a day (UTC); 0 is no bound.",
    )
    usage_rows_per_day: int = _setting(
        20_000,
        "CDXSYNC_USAGE_ROWS_PER_DAY",
        read_int(0, 1 << 40),
        "Usage entries that a host may report in a day (UTC); 0 is no bound.",
    )
    usage_bytes_per_day: int = _setting(
        8 << 20,
        "CDXSYNC_USAGE_BYTES_PER_DAY",
        read_int(0, 1 << 40),
        "Bytes of texts in usage entries that a host may report in a day (UTC); 0 is no bound.",
    )
    failures_per_minute: int = _setting(
        20,
        "CDXSYNC_FAILURES_PER_MINUTE",
        read_int(0, 1_000_000),
        "Failed authentications per minute and address before the answer is 429; 0 is off.",
    )
    calls_per_minute: int = _setting(
        600, "CDXSYNC_CALLS_PER_MINUTE", read_int(0, 1_000_000), "Calls per minute and host; 0 is off."
    )
    keep_log_days: int = _setting(
        90, "CDXSYNC_KEEP_LOG_DAYS", read_int(0, 36500), "Days to keep audit rows; 0 is for ever."
    )
    audit_file: Path | None = _setting(
        None,
        "CDXSYNC_AUDIT_FILE",
        read_path,
        "File to which audit rows are appended as they are written, a line of JSON each.",
    )
    audit_syslog: str = _setting(
        "",
        "CDXSYNC_AUDIT_SYSLOG",
        read_syslog,
        "Syslog that gets audit rows as they are written: the path of a socket, such as /dev/log, or HOST:PORT (TCP).",
    )
    keep_usage_days: int = _setting(
        180,
        "CDXSYNC_KEEP_USAGE_DAYS",
        read_int(0, 36500),
        "Days to keep usage rows; 0 is for ever. Daily totals stay.",
    )
    tls_certificate: Path | None = _setting(
        None,
        "CDXSYNC_TLS_CERTIFICATE",
        read_path,
        "Own server certificate with its chain (PEM), instead of the one of the built-in CA.",
    )
    tls_key: Path | None = _setting(None, "CDXSYNC_TLS_KEY", read_path, "Private key of tls_certificate (PEM).")
    host_ca: Path | None = _setting(
        None,
        "CDXSYNC_HOST_CA",
        read_path,
        "CA (PEM) that hosts trust for public_url; default: cdxsync's own, or the host's trust store when the"
        " certificate that hosts see is not cdxsync's (tls_certificate or plain_http).",
    )
    github_api_url: str = _setting(
        "https://api.github.com",
        "GITHUB_API_URL",
        read_base_url,
        "GitHub's API, where Codex releases are found; empty is off.",
    )
    outside_timeout: float = _setting(
        20.0, "CDXSYNC_OUTSIDE_TIMEOUT", read_seconds, "Time limit for GitHub and pricing_url, in seconds."
    )
    chatgpt_base_url: str = _setting(
        "https://chatgpt.com/backend-api",
        "CHATGPT_BASE_URL",
        read_private_url,
        "ChatGPT's API, where the account's quota is read; empty is off.",
    )
    chatgpt_usage_timeout: float = _setting(
        10.0, "CHATGPT_USAGE_TIMEOUT", read_seconds, "Time limit for the quota, in seconds."
    )
    chatgpt_raw_history: int = _setting(
        20, "CDXSYNC_CHATGPT_RAW_HISTORY", read_int(1, 10000), "Number of quota answers to keep as they came."
    )
    pricing_url: str = _setting(
        "", "PRICING_URL", read_base_url, "JSON of prices by model, read once a day; empty: the four settings below."
    )
    pricing_currency: str = _setting("USD", "PRICING_CURRENCY", read_text, "Currency of the three prices below.")
    gpt51_input_per_1k: Decimal = _setting(
        Decimal("0.00125"), "GPT51_INPUT_PER_1K", read_price, "Price of 1,000 input tokens of gpt-5.1."
    )
    gpt51_output_per_1k: Decimal = _setting(
        Decimal("0.01"), "GPT51_OUTPUT_PER_1K", read_price, "Price of 1,000 output tokens of gpt-5.1."
    )
    gpt51_cached_per_1k: Decimal = _setting(
        Decimal("0.000125"), "GPT51_CACHED_PER_1K", read_price, "Price of 1,000 cached tokens of gpt-5.1."
    )
    runner: str = _setting(
        "auto",
        "CDXSYNC_RUNNER",
        read_choice("auto", "remote", "local", "off"),
        "What checks the canonical document: remote, local or off; auto is remote with auth_runner_url, else local with"
        " runner_check = quota, else off: local with exec spends tokens.",
    )
    runner_check: str = _setting(
        "exec",
        "CDXSYNC_RUNNER_CHECK",
        read_choice("exec", "quota"),
        "How the local runner checks: exec asks a model for one word, quota reads the account's quota.",
    )
    runner_codex: str = _setting("codex", "CDXSYNC_RUNNER_CODEX", read_text, "The codex that the local runner starts.")
    runner_model: str = _setting(
        "", "CDXSYNC_RUNNER_MODEL", read_text, "Model that the local runner asks; empty is Codex's own choice."
    )
    runner_model_url: str = _setting(
        "",
        "CDXSYNC_RUNNER_MODEL_URL",
        read_private_url,
        "Responses API that the local runner asks; empty is Codex's own.",
    )
    runner_token_url: str = _setting(
        "",
        "CDXSYNC_RUNNER_TOKEN_URL",
        read_private_url,
        "Token endpoint at which the local runner's codex refreshes; empty is Codex's own.",
    )
    auth_runner_url: str = _setting(
        "", "AUTH_RUNNER_URL", read_private_url, "URL of a remote runner, https or loopback; empty is none."
    )
    auth_runner_secret: str = _setting(
        "", "CDXSYNC_AUTH_RUNNER_SECRET", read_text, "Secret sent to the remote runner.", secret=True
    )
    auth_runner_codex_base_url: str = _setting(
        "",
        "AUTH_RUNNER_CODEX_BASE_URL",
        read_base_url,
        "URL of this server for the remote runner; empty is public_url.",
    )
    auth_runner_timeout: float = _setting(
        60.0, "AUTH_RUNNER_TIMEOUT", read_seconds, "Time limit of a check, in seconds."
    )
    refresh: str = _setting(
        "server",
        "CDXSYNC_REFRESH",
        read_choice("server", "hosts"),
        "Who refreshes the canonical login: the server alone, as the fleet's token endpoint; or hosts, which can lose"
        " it to each other, for a server that must not reach token_url.",
    )
    token_url: str = _setting(
        "https://auth.openai.com/oauth/token",
        "CDXSYNC_TOKEN_URL",
        read_private_url,
        "Token endpoint at which the server refreshes; empty is off: hosts refresh.",
    )
    refresh_ahead_seconds: int = _setting(
        86400,
        "CDXSYNC_REFRESH_AHEAD_SECONDS",
        read_int(60, 30 * 86400),
        "Seconds before expiry at which the server refreshes; at most half of a token's lifetime.",
    )
    grants_only: bool = _setting(
        False,
        "CDXSYNC_GRANTS_ONLY",
        read_bool,
        "Whether clients that take no grant are refused, so that no host's key gives the login's refresh token. Update"
        " cdx on all hosts first.",
    )
    codex_file_store: bool = _setting(
        False,
        "CDXSYNC_CODEX_FILE_STORE",
        read_bool,
        "Whether cdx makes Codex read auth.json on every host, also where its own settings name another store.",
    )
    count_outside: bool = _setting(
        True,
        "CDXSYNC_COUNT_OUTSIDE",
        read_bool,
        "Whether cdx also reports what Codex has used on a host without cdx in front: plain Codex, an IDE, a daemon.",
    )

    @property
    def server_refreshes(self) -> bool:
        """Whether the server alone spends the refresh token of the canonical login."""
        return self.refresh == "server" and bool(self.token_url)

    @property
    def base_path(self) -> str:
        """The path part of `public_url`, without trailing slash."""
        return urlsplit(self.public_url).path


def default_home() -> Path:
    """`/var/lib/cdxsync` for root, else the platform's data directory."""
    if hasattr(os, "geteuid") and os.geteuid() == 0 and not sys.platform.startswith("win"):
        return SERVICE_HOME
    return platformdirs.user_data_path("cdxsync", appauthor=False)


def check_readable(home: Path) -> None:
    """Raise `SettingError` if another user owns the home; the message has the command to use instead."""
    if not home.is_dir() or os.access(home, os.R_OK | os.X_OK):
        return
    owner = name_of(home.stat().st_uid)
    raise SettingError(
        f"{home} belongs to the user {owner}; only they can read it. Run: sudo -u {shlex.quote(owner)} cdxsync …"
    )


def hint_of_service(home: Path) -> str:
    """A hint at the home of this machine's service, for a command that uses another `home`; "" without one."""
    try:
        owner = SERVICE_HOME.owner() if home != SERVICE_HOME and SERVICE_HOME.is_dir() else ""
    except (OSError, KeyError):
        owner = ""
    if not owner:
        return ""
    return (
        f"The service of this machine uses {SERVICE_HOME}. Run: sudo -u {owner} cdxsync --home {SERVICE_HOME} COMMAND"
    )


def load(
    home: Path,
    *,
    config: Path | None = None,
    flags: Mapping[str, object] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Settings:
    """The settings of `home`; `flags` holds those given on the command line, by setting name, None for not given.

    `config` must exist when given; by default `<home>/config.toml` is read when there is one.
    Raises `SettingError` with a line for each unknown key and bad value: its name, its place, what is wrong.
    """
    environ = os.environ if environ is None else environ
    specs = {spec.name: spec for spec in fields(Settings) if spec.metadata}
    path = config or home / CONFIG_NAME
    problems: list[str] = []
    values: dict[str, Any] = {}

    def take(name: str, raw: object, where: str) -> None:
        try:
            values[name] = specs[name].metadata["read"](raw)
        except ValueError as error:
            problems.append(f"{where}: {name} {error}")

    for name, raw in _read_file(path, required=config is not None).items():
        if name in specs:
            take(name, raw, str(path))
        else:
            problems.append(f"{path}: unknown setting {name!r}{_nearest(name, specs)}")
    by_env = {spec.metadata["env"]: name for name, spec in specs.items()}
    for variable, raw in environ.items():
        if variable in by_env:
            take(by_env[variable], raw, f"environment variable {variable}")
        elif variable.startswith(ENV_PREFIX) and variable not in _OUTSIDE_TABLE:
            problems.append(f"unknown environment variable {variable}{_nearest(variable, by_env)}")
    for name, raw in (flags or {}).items():
        if raw is not None:
            take(name, raw, f"--{name.replace('_', '-')}")
    if problems:
        raise SettingError("\n".join(problems))
    settings = Settings(home=home, **values)
    if settings.runner == "remote" and not settings.auth_runner_url:
        raise SettingError("runner is remote: set auth_runner_url")
    runner_host = Listen(urlsplit(settings.auth_runner_url).hostname or "localhost", 0)
    if not runner_host.is_loopback and not settings.auth_runner_secret:
        raise SettingError("auth_runner_url needs auth_runner_secret, by which the runner knows this server; set both")
    if (settings.tls_certificate is None) != (settings.tls_key is None):
        raise SettingError("tls_certificate and tls_key go together: set both or neither")
    return settings


def _read_file(path: Path, *, required: bool) -> dict[str, object]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if required:
            raise SettingError(f"{path}: no such configuration file") from None
        return {}
    except OSError as error:
        raise SettingError(f"{path}: cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingError(f"{path}: cannot be read as TOML: {error}") from None


def _nearest(name: str, known: Mapping[str, object]) -> str:
    close = difflib.get_close_matches(name, known, 1)
    return f" (did you mean {close[0]!r}?)" if close else ""
