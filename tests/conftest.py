"""A real server over real TLS, as a fixture: its own home, certificates and SQLite file."""

import contextlib
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import engines
import forkserver
import pytest
import requests
from cryptography import x509
from documents import make_auth
from engines import Engine
from forkserver import Started
from running import Running, running
from stub_server import StubServer
from upstream import JOBS, Upstream, run_job

from cdxsync.security import pki
from cdxsync.server import tls

REQUIRE_ALL = "TEST_REQUIRES_ALL"
"""Set where everything that tests need is installed: a skipped test is a failure there."""

MEMORY = Path("/dev/shm")
"""Temporary folders lie here if they can: tests end processes, but no power fails, so that nobody needs a disk's syncs.

To have them elsewhere, set PYTEST_DEBUG_TEMPROOT or use `--basetemp`.
"""

BASE_ENVIRONMENT = {
    name: value
    for name, value in os.environ.items()
    if not name.startswith(("CDXSYNC_", "CODEX_", "OPENAI_"))
    and not name.startswith(("AUTH_RUNNER_", "CHATGPT_", "PRICING_", "GPT51_"))
    and name not in {"PUBLIC_BASE_URL", "DASHBOARD_ADMIN_KEY", "TOKEN_MIN_LENGTH", "GITHUB_API_URL"}
} | {"GITHUB_API_URL": "", "CHATGPT_BASE_URL": "", "CDXSYNC_RUNNER": "off"}  # tests call nobody by themselves


def free_port() -> int:
    """A TCP port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Fleet:
    """A server process and the ways to talk to it."""

    def __init__(self, home: Path, *, serve_args: tuple[str, ...] = (), env: dict[str, str] | None = None) -> None:
        self.home = home
        self.port = free_port()
        self.scheme = "http" if "--plain-http" in serve_args else "https"
        self.url = f"{self.scheme}://localhost:{self.port}"
        self.ca_file = home / "pki" / "ca.pem"
        self.env = BASE_ENVIRONMENT | (env or {})
        self.serve_args = serve_args
        self.output: list[str] = []
        self.told = threading.Condition()
        self.processes: list[Started] = []

    def start(self, port: int | None = None, program: tuple[str, ...] = ()) -> Started:
        """Start a server on this home and wait until it listens; with `program`, another than `python -m cdxsync`."""
        arguments = ["--home", str(self.home), "serve"]
        arguments += ["--listen", f"127.0.0.1:{port or self.port}", "--public-url", self.url, *self.serve_args]
        streams = {"stderr": subprocess.PIPE, "stdout": subprocess.DEVNULL, "text": True, "env": self.env}
        process: Started
        if program:
            process = subprocess.Popen([sys.executable, *program, *arguments], **streams)
        else:
            process = forkserver.start(*arguments, **streams)
        settled = threading.Event()
        threading.Thread(target=self._collect, args=(process, settled), daemon=True).start()
        settled.wait(60)
        if process.poll() is not None:
            pytest.fail("the server did not start:\n" + "".join(self.output))
        self.processes.append(process)
        return process

    def _collect(self, process: Started, settled: threading.Event) -> None:
        assert process.stderr is not None
        for line in process.stderr:
            with self.told:
                self.output.append(line)
                self.told.notify_all()
            if line.startswith("Listening on "):
                settled.set()
        process.wait()
        settled.set()

    def wait_for(self, pattern: str, times: int = 1) -> None:
        """Wait until the log of the servers has had so many matches of a regular expression."""
        with self.told:
            found = self.told.wait_for(lambda: len(re.findall(pattern, "".join(self.output))) >= times, 60)
        assert found, f"no {times} of {pattern!r} in:\n" + "".join(self.output)

    def stop(self) -> None:
        """Stop all servers on this home."""
        while self.processes:
            process = self.processes.pop()
            process.terminate()
            process.wait(30)
        assert not engines.has_password("".join(self.output)), "the log has the database's password"

    def database(self) -> contextlib.AbstractContextManager[Any]:
        """A function that runs a statement on this fleet's database; see `engines.connected`."""
        return engines.connected(self.env.get("CDXSYNC_DATABASE_URL", ""), self.home)

    def rows(self, statement: str, *values: Any) -> list[Any]:
        """The rows that a statement finds in the database."""
        with self.database() as execute:
            return list(execute(statement, *values).fetchall())

    def execute(self, statement: str, *values: Any) -> None:
        """Change the database past cdxsync."""
        with self.database() as execute:
            execute(statement, *values)

    def cli(self, *args: str, input: str | None = None, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run `cdxsync` on this home."""
        return run_cli("--home", str(self.home), *args, input=input, check=check, env=self.env)

    @contextlib.contextmanager
    def client(self, api_key: str | None = None, *, certificate: str | None = None) -> Iterator["Client"]:
        """A client with a host's key, or an admin's certificate."""
        with requests.Session() as session:
            session.trust_env = False
            session.verify = str(self.ca_file)
            if api_key:
                session.headers["X-API-Key"] = api_key
            if certificate:
                pki = self.home / "pki"
                folder = pki if certificate == "admin" else pki / "issued"
                session.cert = (str(folder / f"{certificate}.pem"), str(folder / f"{certificate}.key"))
            yield Client(self.url, session)

    def admin_call(self, method: str, path: str, **kwargs: Any) -> Any:
        """Call the admin API; returns `data` of the successful answer."""
        with self.client(certificate="admin") as client:
            response = client.call(method, path, **kwargs)
        assert response.status_code == 200, response.text
        return response.json()["data"]

    def register(self, fqdn: str) -> dict[str, Any]:
        """Register a host through the API; returns `data`."""
        return self.admin_call("POST", "/admin/hosts/register", json={"fqdn": fqdn})

    def key(self, fqdn: str) -> str:
        """Register a host; returns its API key."""
        return str(self.register(fqdn)["host"]["api_key"])

    def upload(self, document: dict[str, Any]) -> dict[str, Any]:
        """Upload an auth document as admin; returns `data`."""
        return self.admin_call("POST", "/admin/auth/upload", json={"auth": document})

    def host(self, reference: str) -> dict[str, Any]:
        """A host as admins see it."""
        shown: dict[str, Any] = json.loads(self.cli("--json", "hosts", "show", reference).stdout)["host"]
        return shown

    def canonical(self) -> dict[str, Any] | None:
        """The canonical document, or None."""
        done = self.cli("auth", "show", "--include-body", check=False)
        if done.returncode == 3:
            return None
        assert done.returncode == 0, done.stderr
        document: dict[str, Any] = json.loads(done.stdout)
        return document

    def wrapper(self, fqdn: str, api_key: str, dest: Path) -> Path:
        """Download a host's baked `cdx` and make it executable."""
        with self.client(api_key) as client:
            response = client.call("GET", "/wrapper/download")
        assert response.status_code == 200, response.text
        dest.write_bytes(response.content)
        dest.chmod(0o755)
        return dest


class Client:
    """Requests to one server."""

    def __init__(self, url: str, session: requests.Session) -> None:
        self.url = url
        self.session = session

    def call(self, method: str, path: str, **kwargs: Any) -> requests.Response:
        """One request; redirects and retries are never wanted."""
        return self.session.request(method, self.url + path, timeout=30, allow_redirects=False, **kwargs)

    def auth(self, **body: Any) -> requests.Response:
        """`POST /auth`."""
        return self.call("POST", "/auth", json=body)


def children(process: subprocess.Popen[str]) -> list[int]:
    """The workers of a server, in the order of their start."""
    return [int(number) for number in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


def run_cli(
    *args: str, input: str | None = None, check: bool = True, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `cdxsync` with captured output."""
    done = forkserver.run(*args, env=env or BASE_ENVIRONMENT, input=input or "")
    if check:
        assert done.returncode == 0, f"cdxsync {' '.join(args)} ended with {done.returncode}: {done.stderr}"
    return done


@contextlib.contextmanager
def running_fleet(home: Path, **kwargs: Any) -> Iterator[Fleet]:
    """A started server, stopped at the end."""
    fleet = Fleet(home, **kwargs)
    fleet.start()
    try:
        yield fleet
    finally:
        fleet.stop()


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


PKI_NAMES = ["cdx.example.net", "localhost", "127.0.0.1", "::1"]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A folder of certificates for one test, made under the most generous umask."""
    before = os.umask(0)
    try:
        pki.create(tmp_path / "pki", PKI_NAMES)
    finally:
        os.umask(before)
    return tmp_path / "pki"


def serial_of(path: Path) -> int:
    """The serial number of a certificate."""
    return x509.load_pem_x509_certificate(path.read_bytes()).serial_number


@pytest.fixture(scope="module")
def pki_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The certificates of a server on this machine."""
    directory = tmp_path_factory.mktemp("tls") / "pki"
    pki.create(directory, ["localhost", "127.0.0.1"])
    return directory


@pytest.fixture
def server_context(pki_folder: Path) -> ssl.SSLContext:
    """The TLS of a server on this machine."""
    return tls.server_context(pki_folder / "server.pem", pki_folder / "server.key", pki_folder / "ca.pem")


@pytest.fixture
def tls_server(server_context: ssl.SSLContext) -> Iterator[Running]:
    """A server with TLS, in this process, with the application of `running`."""
    with running(server_context) as server:
        yield server


@pytest.fixture
def plain_server() -> Iterator[Running]:
    """The same without TLS."""
    with running() as server:
        yield server


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what is marked `every_engine` and uses a database on each, but for what is marked `sqlite_only` in it."""
    if "engine" not in metafunc.fixturenames or metafunc.definition.get_closest_marker("every_engine") is None:
        return
    names = ("sqlite",) if metafunc.definition.get_closest_marker("sqlite_only") else engines.NAMES
    metafunc.parametrize("engine", names, indirect=True, scope="module")


def pytest_configure() -> None:
    """Give signals their default meaning back, also where the tests were started by nohup or in the background."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if _is_good_for_files(MEMORY):
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))


def _is_good_for_files(folder: Path) -> bool:
    """Whether there is space for what tests write, and programs may be there too."""
    if not os.access(folder, os.W_OK):
        return False
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize > 1 << 30 and not found.f_flag & os.ST_NOEXEC


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Where nothing may be skipped, say what was."""
    for report in _forbidden_skips(terminalreporter):
        terminalreporter.write_line(f"SKIPPED, though {REQUIRE_ALL} is set: {report.nodeid}", red=True)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Where nothing may be skipped, fail when something was."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and session.exitstatus == 0 and _forbidden_skips(reporter):
        session.exitstatus = 1


def _forbidden_skips(reporter: pytest.TerminalReporter) -> list[pytest.TestReport]:
    if not os.environ.get(REQUIRE_ALL):
        return []
    # Which other Pythons there are is the machine's own business.
    return [report for report in reporter.stats.get("skipped", []) if "no Python 3" not in str(report.longrepr)]
