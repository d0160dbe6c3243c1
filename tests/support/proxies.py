"""nginx, Caddy and HAProxy in front of a server, from the files in `examples/proxies`, with other ports and paths."""

import re
import shutil
import subprocess
import threading
from pathlib import Path

import pytest

from tests.support.fleet import BASE_ENVIRONMENT, Fleet, free_port

FILES = Path(__file__).parents[2] / "examples" / "proxies"
NGINX_STREAM = Path("/usr/lib/nginx/modules/ngx_stream_module.so")
TERMINATING = {"nginx": "nginx.conf", "caddy": "Caddyfile", "haproxy": "haproxy.cfg"}
PASSING = {"nginx": "nginx-stream.conf", "haproxy": "haproxy-tcp.cfg"}
_READY = {"nginx": "start worker process ", "caddy": "serving initial configuration", "haproxy": "Loading success"}


def need(program: str, *, stream: bool = False) -> None:
    """Skip where a proxy is not installed."""
    if shutil.which(program, path="/usr/sbin:/usr/bin:/usr/local/bin") is None:
        pytest.skip(f"{program} is not installed")
    if program == "nginx" and stream and not NGINX_STREAM.exists():
        pytest.skip("nginx has no stream module (libnginx-mod-stream)")


class Proxy:
    """A proxy on a port of its own, that sends what comes to `backend` on this machine."""

    def __init__(
        self, program: str, file: str, folder: Path, fleet: Fleet, backend: int, port: int | None = None
    ) -> None:
        self.program = program
        self.port = port or free_port()
        self.url = f"https://localhost:{self.port}"
        self._folder = folder
        folder.mkdir(parents=True)
        pki = fleet.home / "pki"
        (folder / "server.pem").write_bytes((pki / "server.pem").read_bytes() + (pki / "server.key").read_bytes())
        replaced = {
            "/etc/letsencrypt/live/cdx.example.net/fullchain.pem": str(pki / "server.pem"),
            "/etc/letsencrypt/live/cdx.example.net/privkey.pem": str(pki / "server.key"),
            "/etc/cdxsync/server.pem": str(pki / "server.pem"),
            "/etc/cdxsync/server.key": str(pki / "server.key"),
            "/etc/haproxy/cdxsync.pem": str(folder / "server.pem"),
            "/etc/cdxsync/ca.pem": str(pki / "ca.pem"),
            "127.0.0.1:8080": f"127.0.0.1:{backend}",
            "10.0.0.11:8443": f"127.0.0.1:{backend}",
            "[::]:443": f"unix:{folder}/second.sock",
            "listen 443": f"listen 127.0.0.1:{self.port}",
            "bind :::443 v4v6": f"bind 127.0.0.1:{self.port}",
            "cdx.example.net": "localhost",
            "localhost:443": f"localhost:{self.port}",
        }
        text = (FILES / file).read_text()
        for old, new in replaced.items():
            text = text.replace(old, new)
        self._file = folder / file
        self._file.write_text(text)
        self.output: list[str] = []
        self._process = self._start()

    def _command(self) -> list[str]:
        if self.program == "nginx":
            main = self._folder / "main.conf"
            temporary = "".join(
                f"{name}_temp_path {self._folder}/{name};\n"
                for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
            )
            start = f"daemon off;\npid {self._folder}/pid;\nerror_log stderr notice;\nevents {{}}\n"
            if self._file.name == PASSING["nginx"]:
                main.write_text(f"load_module {NGINX_STREAM};\n{start}include {self._file};\n")
            else:
                main.write_text(f"{start}http {{\naccess_log /dev/stderr;\n{temporary}include {self._file};\n}}\n")
            return ["nginx", "-e", "stderr", "-p", str(self._folder), "-c", str(main)]
        if self.program == "caddy":
            return ["caddy", "run", "--config", str(self._file), "--adapter", "caddyfile"]
        return ["haproxy", "-W", "-f", str(self._file)]

    def _start(self) -> subprocess.Popen[str]:
        env = BASE_ENVIRONMENT | {
            "HOME": str(self._folder),
            "PATH": "/usr/sbin:/usr/bin:/bin:/usr/local/bin",
            "CADDY_ADMIN": f"localhost:{free_port()}",
            "XDG_DATA_HOME": str(self._folder),
            "XDG_CONFIG_HOME": str(self._folder),
        }
        process = subprocess.Popen(
            self._command(), env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        settled = threading.Event()

        def collect() -> None:
            assert process.stdout is not None
            with process.stdout:
                for line in process.stdout:
                    self.output.append(line)
                    if re.search(_READY[self.program], line):
                        settled.set()
            settled.set()

        self._reader = threading.Thread(target=collect, daemon=True)
        self._reader.start()
        settled.wait(60)
        if process.poll() is not None:
            pytest.fail(f"{self.program} did not start:\n" + "".join(self.output))
        return process

    def stop(self) -> str:
        """End it; returns all that it has written."""
        self._process.terminate()
        self._process.wait(30)
        self._reader.join(30)
        return "".join(self.output)
