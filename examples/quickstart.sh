#!/bin/sh
# A server and two synced hosts on this machine, with a made-up login, in a folder that can be thrown away. See README.md.
set -eu
umask 077

if [ $# -gt 1 ] || [ "${1:-}" = -h ] || [ "${1:-}" = --help ]; then
    cat >&2 <<'END'
Usage: quickstart.sh [FOLDER]      FOLDER is new or empty; default: a new one below /tmp

CDXSYNC_LISTEN says where the server listens: 127.0.0.1:8443 by default.
END
    exit 2
fi
command -v cdxsync >/dev/null || {
    echo "quickstart: cdxsync is not on PATH; try: PATH=\"\$PWD/.venv/bin:\$PATH\" $0" >&2
    exit 1
}
folder=${1:-$(mktemp -d)}
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
if [ -n "$(ls -A "$folder")" ]; then
    echo "quickstart: $folder is not empty; name a new folder" >&2
    exit 1
fi
listen=${CDXSYNC_LISTEN:-127.0.0.1:8443}
export CDXSYNC_HOME="$folder/server" CDXSYNC_RUNNER=off
export CDXSYNC_TOKEN_URL= # nothing is refreshed: the tokens are made up

say() {
    printf '\n== %s\n' "$*"
}

# Both hosts are this machine. As root the installer would write /usr/local/bin, where there is room for one `cdx`.
mkdir "$folder/bin" "$folder/alpha" "$folder/beta"
cat >"$folder/bin/id" <<'END'
#!/bin/sh
[ "$1" = -u ] && echo 1000 || exec /usr/bin/id "$@"
END
chmod 755 "$folder/bin/id"
on_host() {
    host=$1
    shift
    HOME="$folder/$host" CODEX_HOME="$folder/$host/.codex" PATH="$folder/bin:$PATH" "$@"
}

# A document as Codex writes it, with tokens that are good for nothing. $1: when it was refreshed.
login() {
    python3 -I - "$1" <<'END'
import base64, json, sys

def part(value):
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

def token(name):
    return f"{part({'alg': 'none'})}.{part({'email': 'you@example.net', 'exp': 4102444800, 'jti': name})}.c2ln"

at = sys.argv[1]
tokens = {"id_token": token(f"id {at}"), "access_token": token(f"access {at}"), "refresh_token": f"rt-{at}", "account_id": "acc"}
print(json.dumps({"OPENAI_API_KEY": None, "tokens": tokens, "last_refresh": at}, indent=2))
END
}

say "Start the server"
cdxsync serve --listen "$listen" --public-url "https://localhost:${listen##*:}" 2>"$folder/server.log" &
server=$!
trap 'kill "$server" 2>/dev/null; wait "$server" || true' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
until grep -q '^Listening on' "$folder/server.log"; do
    kill -0 "$server" 2>/dev/null || {
        cat "$folder/server.log" >&2
        exit 1
    }
    sleep 0.2
done
grep -v ' INFO ' "$folder/server.log"

say "Give the fleet its first login"
login 2026-01-01T00:00:00Z | cdxsync auth upload -

for host in alpha beta; do
    say "Register and install $host"
    cdxsync --quiet hosts register "$host.example.net" >"$folder/$host/install"
    on_host "$host" sh "$folder/$host/install"
    rm "$folder/$host/install"
done

say "Log in again on alpha; a run of cdx there shares it"
login 2026-01-02T00:00:00Z >"$folder/alpha/.codex/auth.json"
on_host alpha "$folder/alpha/.local/bin/cdx" login status

say "The next run on beta fetches it"
on_host beta "$folder/beta/.local/bin/cdx" login status
on_host beta "$folder/beta/.local/bin/cdx" --status

say "What the server knows"
cdxsync hosts list
cdxsync auth history

say "The server goes on until Ctrl-C. Try, in another shell:"
cat <<END
export CDXSYNC_HOME=$CDXSYNC_HOME
cdxsync overview
cdxsync logs --follow
cdxsync doctor
HOME=$folder/alpha $folder/alpha/.local/bin/cdx --doctor
END
wait "$server"
