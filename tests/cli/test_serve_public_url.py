"""`cdxsync serve --public-url` on a home whose settings name another address."""

import socket
from pathlib import Path

from tests.support.fleet import run_cli


def test_a_url_that_other_commands_do_not_know_is_named(tmp_path: Path) -> None:
    home = str(tmp_path / "home")
    run_cli("--home", home, "init", "--public-url", "https://old.example.net")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"

        def said(url: str) -> str:
            return run_cli("--home", home, "serve", "--listen", listen, "--public-url", url, check=False).stderr

        told = "Note: other commands print installers for https://old.example.net, not https://new.example.net."
        assert told in said("https://new.example.net")
        assert "other commands" not in said("https://old.example.net")
