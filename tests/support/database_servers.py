"""A private PostgreSQL and a private MariaDB from Debian's packages, for tests and benchmarks.

Each runs in a folder of its own, on a free port of loopback, as a user who is not root. Every fleet gets a fresh
database in it.
"""

import contextlib
import itertools
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from cdxsync.security import pki
from tests.support import memory
from tests.support.ports import free_port
from tests.support.together import until

PASSWORD = "p@ss:w/rd%23 1?"
"""Of the database user; every character that a URL must escape."""
USER = "cdxsync"
_numbers = itertools.count(1)


class NotInstalled(Exception):
    """A program that is needed is not there; the text says which package has it."""


def _program(name: str, package: str) -> str:
    """The path of a program that Debian keeps out of PATH. Raises `NotInstalled`."""
    newest_first = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: -int(path.parts[-2]))
    folders = [*os.environ["PATH"].split(":"), "/usr/sbin", *map(str, newest_first)]
    found = shutil.which(name, path=":".join(folders))
    if found is None:
        raise NotInstalled(f"{name} is not installed; on Debian: apt install {package}")
    return found


def _nobody() -> dict[str, Any]:
    """How to start a program as a user who is not root; PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    return {"user": "nobody", "group": pwd.getpwnam("nobody").pw_gid, "extra_groups": []}


class DatabaseServer:
    """A database server of the tests. `durable` is for tests that kill it; others need not wait for the disk."""

    scheme = ""

    def __init__(self, *, durable: bool = False, tls: bool = False) -> None:
        """With `tls` it has a certificate of the CA `ca_file`."""
        self.durable = durable
        self.tls = tls
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="cdxsync-db-", dir=None if durable else memory.folder()))
        if os.geteuid() == 0:
            shutil.chown(self.folder, "nobody")
        self.log = self.folder / "log"
        self.ca_file, self.certificate, self.key = (
            self.folder / "pki" / name for name in ("ca.pem", "server.pem", "server.key")
        )
        if tls:
            pki.create(self.folder / "pki", ["localhost", "127.0.0.1"])
            (self.folder / "pki").chmod(0o755)
            if os.geteuid() == 0:
                shutil.chown(self.key, "nobody")
        self.process: subprocess.Popen[bytes] | None = None
        self._make()
        try:
            self.start()
        except RuntimeError:  # another process has taken the port meanwhile
            self.port = free_port()
            self.start()
        self._create_user()

    def _make(self) -> None:
        raise NotImplementedError

    def _command(self) -> list[str]:
        raise NotImplementedError

    def _create_user(self) -> None:
        raise NotImplementedError

    def admin(self, database: str = "") -> contextlib.closing[Any]:
        """A connection as the server's own administrator, which commits each statement by itself."""
        raise NotImplementedError

    def _run(self, command: list[str]) -> None:
        done = subprocess.run(
            command, cwd=self.folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, **_nobody()
        )
        if done.returncode != 0:
            raise RuntimeError(f"{command[0]} ended with {done.returncode}:\n{done.stdout}{done.stderr}")

    def start(self) -> None:
        """Start it, also after a kill, and wait until it answers."""
        with self.log.open("ab") as log:
            # It ends with the thread that starts it: a test run that is killed leaves nothing.
            self.process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *self._command()],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                **_nobody(),
            )
        until(self._answers)

    def _answers(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise RuntimeError(f"the database server has ended:\n{self.log.read_text(errors='replace')[-3000:]}")
        try:
            self._probe()
            with self.admin():
                return True
        except Exception:
            return False

    def _probe(self) -> None:
        """Raises `OSError` when nothing listens, as drivers do; but these leave the socket open."""
        with socket.create_connection(("127.0.0.1", self.port), 30):
            pass

    def _children(self) -> list[str]:
        assert self.process is not None
        return Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Stop it and all its processes, within the block: its machine goes on to acknowledge what it gets."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)
        children = self._children()
        try:
            for child in children:
                os.kill(int(child), signal.SIGSTOP)
            yield
        finally:
            for child in children:
                os.kill(int(child), signal.SIGCONT)
            self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it and all its processes at once, as a loss of power would."""
        assert self.process is not None
        children = self._children()
        self.process.kill()
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(child), signal.SIGKILL)
        self.process.wait(30)
        # It would not start beside what is left of itself.
        until(lambda: not any(Path(f"/proc/{child}").exists() for child in children))

    def stop(self) -> None:
        """End it, and remove its folder."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT if self.scheme == "postgresql" else signal.SIGTERM)
            self.process.wait(60)
        shutil.rmtree(self.folder, ignore_errors=True)

    def fresh(self) -> str:
        """The URL of a new, empty database."""
        name = f"fleet{next(_numbers)}"
        self._create(name)
        return f"{self.scheme}://{USER}:{quote(PASSWORD, safe='')}@127.0.0.1:{self.port}/{name}"

    def _create(self, name: str) -> None:
        raise NotImplementedError


class Postgres(DatabaseServer):
    """PostgreSQL; its databases sort texts as English does, which is not how SQLite does."""

    scheme = "postgresql"

    def _make(self) -> None:
        initdb = _program("initdb", "postgresql")
        options = ["--no-sync", "--auth=scram-sha-256", "--username=postgres", "--encoding=UTF8", "--locale=C.UTF-8"]
        password = self.folder / "password"
        password.write_text(PASSWORD)
        password.chmod(0o644)
        self._run([initdb, "-D", str(self.folder / "data"), *options, f"--pwfile={password}"])

    def _command(self) -> list[str]:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            "shared_buffers": "32MB",
            "max_connections": "200",
        }
        if not self.durable:
            settings |= {"fsync": "off", "full_page_writes": "off"}
        if self.tls:
            settings |= {"ssl": "on", "ssl_cert_file": str(self.certificate), "ssl_key_file": str(self.key)}
        given = [f"--{name}={value}" for name, value in settings.items()]
        return [_program("postgres", "postgresql"), "-D", str(self.folder / "data"), *given]

    def admin(self, database: str = "postgres") -> contextlib.closing[Any]:
        """A connection as `postgres`."""
        import psycopg

        place = {"host": "127.0.0.1", "port": self.port, "dbname": database}
        connection = psycopg.connect(**place, user="postgres", password=PASSWORD, autocommit=True)  # type: ignore[arg-type]
        return contextlib.closing(connection)

    def _create_user(self) -> None:
        with self.admin() as connection:
            connection.execute(f"CREATE ROLE {USER} LOGIN PASSWORD '{PASSWORD}'")

    def _create(self, name: str) -> None:
        with self.admin() as connection:
            connection.execute(
                f"CREATE DATABASE {name} OWNER {USER} TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'en-US'"
            )


class MariaDb(DatabaseServer):
    """MariaDB; its databases compare texts without regard to case, which is not how SQLite does."""

    scheme = "mysql"

    def _make(self) -> None:
        install = _program("mariadb-install-db", "mariadb-server")
        options = ["--auth-root-authentication-method=normal", "--skip-test-db"]
        self._run([install, "--no-defaults", f"--datadir={self.folder / 'data'}", *options])

    def _command(self) -> list[str]:
        settings = {
            "datadir": self.folder / "data",
            # A server that starts removes the temporary tables there, and another fails without its own.
            "tmpdir": self.folder,
            "socket": self.folder / "socket",
            "pid-file": self.folder / "pid",
            "bind-address": "127.0.0.1",
            "port": self.port,
            "innodb-buffer-pool-size": "32M",
            "innodb-flush-log-at-trx-commit": 1 if self.durable else 0,
            "character-set-server": "utf8mb4",
            "collation-server": "utf8mb4_general_ci",
        }
        if self.tls:
            settings |= {"ssl-cert": self.certificate, "ssl-key": self.key}
        given = [f"--{name}={value}" for name, value in settings.items()]
        return [_program("mariadbd", "mariadb-server"), "--no-defaults", "--skip-name-resolve", *given]

    def _probe(self) -> None:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.connect(str(self.folder / "socket"))

    def admin(self, database: str = "mysql") -> contextlib.closing[Any]:
        """A connection as `root`."""
        import pymysql

        socket_file = str(self.folder / "socket")
        return contextlib.closing(
            pymysql.connect(unix_socket=socket_file, user="root", database=database, autocommit=True)
        )

    def _statement(self, statement: str) -> None:
        with self.admin() as connection, connection.cursor() as cursor:
            cursor.execute(statement)

    def _create_user(self) -> None:
        self._statement(f"CREATE USER {USER}@'127.0.0.1' IDENTIFIED BY '{PASSWORD}'")

    def _create(self, name: str) -> None:
        self._statement(f"CREATE DATABASE {name}")
        self._statement(f"GRANT ALL ON {name}.* TO {USER}@'127.0.0.1'")
