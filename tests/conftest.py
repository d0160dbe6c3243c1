"""What tests are given: fleets, services outside, certificates and engines; and the rule about skipped tests."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from cdxsync.security import pki
from cdxsync.server import tls
from tests.support import engines, facts, memory, order, real_codex
from tests.support.documents import make_auth
from tests.support.engines import Engine
from tests.support.fleet import PKI_NAMES, Fleet, running_fleet
from tests.support.provider import Provider, running_provider
from tests.support.real_codex import RealCodex
from tests.support.running import Running, running
from tests.support.stub_server import StubServer
from tests.support.upstream import JOBS, Upstream, run_job

REQUIRE_ALL = "TEST_REQUIRES_ALL"
"""Set where everything that tests need is installed: a skipped test is a failure there."""

MOST_WORKERS = 16
"""Processes that `-n auto` starts at most."""


# How long an example takes says how busy the machine is.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


@pytest.fixture(scope="session")
def database_servers() -> Iterator[engines.Servers]:
    """The private PostgreSQL and MariaDB of this test process."""
    servers = engines.Servers()
    yield servers
    servers.stop()


@pytest.fixture(scope="module")
def engine(request: pytest.FixtureRequest, database_servers: engines.Servers) -> Engine:
    """The kind of database: SQLite, or each in turn in tests marked `every_engine`."""
    return database_servers.engine(getattr(request, "param", "sqlite"))


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory, engine: Engine) -> Iterator[Fleet]:
    """A server for a module; each test takes a host name of its own."""
    with running_fleet(tmp_path_factory.mktemp("fleet") / "home", env=engine.environment()) as started:
        yield started


@pytest.fixture
def fresh_fleet(tmp_path: Path, engine: Engine) -> Iterator[Fleet]:
    """A server for one test: no document yet, no host."""
    with running_fleet(tmp_path / "home", env=engine.environment()) as started:
        yield started


@pytest.fixture(scope="module")
def codex(request: pytest.FixtureRequest) -> RealCodex:
    """The real Codex: the newest, or each in turn in tests marked `every_codex`; skips the test where there is none."""
    name = getattr(request, "param", "newest")
    found = real_codex.find(name)
    if found is None:
        pytest.skip(real_codex.missing(name))
    return found


@pytest.fixture
def stub() -> Iterator[StubServer]:
    """A server that answers as the test says."""
    started = StubServer()
    yield started
    started.stop()


@pytest.fixture(scope="module")
def services() -> Iterator[Upstream]:
    """The services outside, for a module."""
    started = Upstream()
    yield started
    started.stop()


@pytest.fixture(scope="module")
def connected(tmp_path_factory: pytest.TempPathFactory, services: Upstream, engine: Engine) -> Iterator[Fleet]:
    """A server that has read everything outside once, and holds a document."""
    env = (
        services.environment()
        | engine.environment()
        | {
            "CDXSYNC_OUTSIDE_TIMEOUT": "3",
            "CHATGPT_USAGE_TIMEOUT": "3",
            "AUTH_RUNNER_TIMEOUT": "3",
        }
    )
    with running_fleet(tmp_path_factory.mktemp("outside") / "home", env=env) as started:
        started.upload(make_auth())
        for name in JOBS:
            run_job(started, name)
        yield started


@pytest.fixture
def well(services: Upstream) -> Iterator[Upstream]:
    """The services of the module, well again after the test."""
    yield services
    services.release()


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    """The services outside, for one test."""
    started = Upstream()
    yield started
    started.stop()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A folder of certificates for one test, made under the most generous umask."""
    before = os.umask(0)
    try:
        pki.create(tmp_path / "pki", PKI_NAMES)
    finally:
        os.umask(before)
    return tmp_path / "pki"


@pytest.fixture(scope="module")
def pki_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The certificates of a server on this machine."""
    directory = tmp_path_factory.mktemp("tls") / "pki"
    pki.create(directory, ["localhost", "127.0.0.1"])
    return directory


@pytest.fixture
def server_context(pki_folder: Path) -> tls.ServerContext:
    """The TLS of a server on this machine."""
    return tls.server_context(pki_folder / "server.pem", pki_folder / "server.key", pki_folder / "ca.pem")


@pytest.fixture
def tls_server(server_context: tls.ServerContext) -> Iterator[Running]:
    """A server with TLS, in this process, with the application of `running`."""
    with running(server_context) as server:
        yield server


@pytest.fixture
def plain_server() -> Iterator[Running]:
    """The same without TLS."""
    with running() as server:
        yield server


@pytest.fixture
def provider() -> Iterator[Provider]:
    """A strict provider of logins."""
    with running_provider() as started:
        yield started


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what is marked `every_engine` and uses a database on each, or on those that a mark names.

    Likewise what is marked `every_codex` with each Codex.
    """
    if metafunc.definition.get_closest_marker("every_codex") is not None:
        metafunc.parametrize("codex", real_codex.NAMES, indirect=True, scope="module")
    if "engine" not in metafunc.fixturenames or metafunc.definition.get_closest_marker("every_engine") is None:
        return
    names: tuple[str, ...] = engines.NAMES
    if metafunc.definition.get_closest_marker("sqlite_only"):
        names = ("sqlite",)
    elif metafunc.definition.get_closest_marker("servers_only"):
        names = tuple(name for name in names if name != "sqlite")
    metafunc.parametrize("engine", names, indirect=True, scope="module")


def pytest_configure(config: pytest.Config) -> None:
    """Give signals their default meaning back, also where the tests were started by nohup or in the background."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if (folder := memory.folder()) is not None:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(folder))
    config.option.loadscopereorder = False  # xdist deals files out in their order


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the files that take longest begin first."""
    order.longest_first(items)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """With `-n auto`, two processes for each processor: tests wait for others half of their time."""
    return min(2 * len(os.sched_getaffinity(0)), MOST_WORKERS)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Where nothing may be skipped, say what was; and which facts a release of Codex has broken."""
    for report in _forbidden_skips(terminalreporter):
        terminalreporter.write_line(f"SKIPPED, though {REQUIRE_ALL} is set: {report.nodeid}", red=True)
    stats = terminalreporter.stats
    for line in facts.broken([*stats.get("failed", []), *stats.get("error", [])]):
        terminalreporter.write_line(line, red=True)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Where nothing may be skipped, fail when something was."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and session.exitstatus == 0 and _forbidden_skips(reporter):
        session.exitstatus = 1


def _forbidden_skips(reporter: pytest.TerminalReporter) -> list[pytest.TestReport]:
    if not os.environ.get(REQUIRE_ALL):
        return []
    # Which other Pythons there are is the machine's own business; and who is not root is asked for no more.
    excused = ("no Python 3",) if os.geteuid() == 0 else ("no Python 3", "only root")
    skipped = reporter.stats.get("skipped", [])
    return [report for report in skipped if not any(reason in str(report.longrepr) for reason in excused)]
