"""A real server over real TLS: its own home, certificates and SQLite file; and the ways to talk to it."""

import contextlib
import functools
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from cryptography import x509

from tests.support import engines, forkserver, macs
from tests.support.forkserver import Started
from tests.support.ports import free_port as free_port

PKI_NAMES = ["cdx.example.net", "localhost", "127.0.0.1", "::1"]


BASE_ENVIRONMENT = {
    name: value
    for name, value in os.environ.items()
    if not name.startswith(("CDXSYNC_", "CODEX_", "OPENAI_"))
    and not name.startswith(("AUTH_RUNNER_", "CHATGPT_", "PRICING_", "GPT51_"))
    and name not in {"PUBLIC_BASE_URL", "DASHBOARD_ADMIN_KEY", "TOKEN_MIN_LENGTH", "GITHUB_API_URL"}
} | {
    "GITHUB_API_URL": "",
    "CHATGPT_BASE_URL": "",
    "CDXSYNC_RUNNER": "off",
    "CDXSYNC_TOKEN_URL": "",
}  # tests call nobody by themselves


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
        run = functools.partial(subprocess.Popen, [sys.executable, *program, *arguments])
        begin: Callable[..., Started] = run if program else functools.partial(forkserver.start, *arguments)
        process = begin(stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=self.env)
        settled = threading.Event()
        threading.Thread(target=self._collect, args=(process, settled), daemon=True).start()
        settled.wait(60)
        if process.poll() is not None:
            pytest.fail("the server did not start:\n" + "".join(self.output))
        self.processes.append(process)
        return process

    def _collect(self, process: Started, settled: threading.Event) -> None:
        assert process.stderr is not None
        with process.stderr:
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

    def _connected(self) -> contextlib.AbstractContextManager[Any]:
        return engines.connected(self.env.get("CDXSYNC_DATABASE_URL", ""), self.home)

    @contextlib.contextmanager
    def database(self) -> Iterator[Any]:
        """A function that runs a statement on this fleet's database; see `engines.connected`.

        What it writes is as if the server had: rows that give rights get their MACs at the end.
        """
        statements: list[str] = []
        with self._connected() as execute:

            def noted(statement: str, *values: Any) -> Any:
                statements.append(statement)
                return execute(statement, *values)

            yield noted
        if any(macs.concerns(statement) for statement in statements):
            macs.renew(self.home, self.env)

    def rows(self, statement: str, *values: Any) -> list[Any]:
        """The rows that a statement finds in the database."""
        with self.database() as execute:
            return list(execute(statement, *values).fetchall())

    def execute(self, statement: str, *values: Any) -> None:
        """Change the database, as if the server had."""
        with self.database() as execute:
            execute(statement, *values)

    def tamper(self, statement: str, *values: Any) -> None:
        """Change the database past cdxsync, as one who has no keyring."""
        with self._connected() as execute:
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
        data: dict[str, Any] = self.admin_call("POST", "/admin/hosts/register", json={"fqdn": fqdn})
        return data

    def key(self, fqdn: str) -> str:
        """Register a host; returns its API key."""
        return str(self.register(fqdn)["host"]["api_key"])

    def upload(self, document: dict[str, Any]) -> dict[str, Any]:
        """Upload an auth document as admin; returns `data`."""
        data: dict[str, Any] = self.admin_call("POST", "/admin/auth/upload", json={"auth": document})
        return data

    def host(self, reference: str) -> dict[str, Any]:
        """A host as admins see it."""
        shown: dict[str, Any] = json.loads(self.cli("--json", "hosts", "show", reference).stdout)["host"]
        return shown

    def usages(self) -> list[dict[str, Any]]:
        """The rows of usage as admins see them, the oldest first."""
        listed = json.loads(self.cli("--json", "usage", "list", "--limit", "500").stdout)["usages"]
        return list(reversed(listed))

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


def children(process: Started | subprocess.Popen[Any]) -> list[int]:
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


def serial_of(path: Path) -> int:
    """The serial number of a certificate."""
    return x509.load_pem_x509_certificate(path.read_bytes()).serial_number
