#!/usr/bin/env bash
# Installing Codex for @@FQDN_TEXT@@ via @@BASE_URL_TEXT@@
# Installs the cdx wrapper for this one host, and Codex where it is missing. Works once.
set -euo pipefail
umask 077

BASE_URL=@@BASE_URL@@
FQDN=@@FQDN@@
WRAPPER_VERSION=@@WRAPPER_VERSION@@
WRAPPER_SHA256=@@WRAPPER_SHA256@@
CA_PEM=@@CA_PEM@@
GITHUB_API_URL=@@GITHUB_API_URL@@

say() { printf '%s\n' "$*"; }
warn() { printf 'cdx installer: %s\n' "$*" >&2; }
die() {
    warn "$*"
    exit 1
}

# This installer is used up by now, whatever goes wrong.
AGAIN="then ask your admin for a new installer: cdxsync hosts register $FQDN"

need() {
    command -v "$1" >/dev/null 2>&1 ||
        die "$1 is missing. Install it (apt-get install $2, dnf install $2, apk add $2 or brew install $2), $AGAIN"
}

check_needs() {
    need curl curl
    need python3 python3
    python3 -IS -c 'import sys; sys.exit(sys.version_info < (3, 8))' </dev/null ||
        die "python3 is $(python3 -V 2>&1 </dev/null); cdx needs 3.8 or later. Install a newer one, $AGAIN"
}

# Downloads the wrapper into $1; the key goes by a file, never by the command line.
download_wrapper() {
    cat >"$WORK/headers" <<'HEADERS'
X-API-Key: @@API_KEY_TEXT@@
HEADERS
    local trust=()
    if [ -n "$CA_PEM" ]; then
        printf '%s\n' "$CA_PEM" >"$WORK/ca.pem"
        trust=(--cacert "$WORK/ca.pem")
    fi
    curl -fsSL "@@BASE_URL_TEXT@@/wrapper/download" ${trust[@]+"${trust[@]}"} -H @"$WORK/headers" \
        --connect-timeout 10 --max-time 120 --retry 2 -o "$1" </dev/null ||
        die "cannot download cdx from $BASE_URL: fix what curl reports above, $AGAIN"
}

sha256_of() {
    python3 -IS -c 'import hashlib, sys; print(hashlib.sha256(open(sys.argv[1], "rb").read()).hexdigest())' "$1" </dev/null
}

# Puts file $1 at $2 with mode $3, in one step.
place() {
    local target=$2 directory
    directory=$(dirname "$target")
    mkdir -p "$directory" || return 1
    cp -p "$1" "$directory/.cdx-install.$$" && chmod "$3" "$directory/.cdx-install.$$" &&
        mv -f "$directory/.cdx-install.$$" "$target" && return 0
    rm -f "$directory/.cdx-install.$$"
    return 1
}

# The first codex on PATH or in the usual places that is not cdx.
find_codex() {
    local directory path="$PATH:/usr/local/bin:/opt/codex/bin:$HOME/.local/bin"
    local IFS=:
    for directory in $path; do
        if [ -f "$directory/codex" ] && [ -x "$directory/codex" ] && ! [ "$directory/codex" -ef "$BIN/cdx" ]; then
            printf '%s\n' "$directory/codex"
            return 0
        fi
    done
    return 1
}

install_codex_by_npm() {
    command -v npm >/dev/null 2>&1 || return 1
    say "Installing Codex with npm"
    local where=()
    [ "$(id -u)" = 0 ] || where=(--prefix "$HOME/.local")
    # Codex is no secret: whoever may run cdx must be able to run it.
    (umask 022 && npm install --global --no-fund --no-audit ${where[@]+"${where[@]}"} @openai/codex </dev/null >&2)
}

# Prints the URL and SHA-256 of asset $2 from the release description in file $1.
read_release() {
    python3 -IS - "$1" "$2" <<'PYTHON'
import json, re, sys

with open(sys.argv[1], encoding="utf-8") as file:
    assets = json.load(file).get("assets", [])
for asset in assets:
    checksum = re.fullmatch(r"sha256:([0-9a-f]{64})", str(asset.get("digest")))
    if asset.get("name") == sys.argv[2] and checksum:
        print(asset["browser_download_url"], checksum.group(1))
        sys.exit(0)
sys.exit(1)
PYTHON
}

# Takes the one program out of archive $1 into file $2.
unpack_codex() {
    python3 -IS - "$1" "$2" "$3" <<'PYTHON'
import shutil, sys, tarfile

with tarfile.open(sys.argv[1]) as archive:
    files = [member for member in archive if member.isfile() and member.name.split("/")[-1] in (sys.argv[3], "codex")]
    if len(files) != 1:
        sys.exit("the archive does not hold exactly one program")
    with archive.extractfile(files[0]) as source, open(sys.argv[2], "wb") as target:
        shutil.copyfileobj(source, target)
PYTHON
}

install_codex_from_github() {
    local machine name url sum
    case "$(uname -s)-$(uname -m)" in
    Linux-x86_64 | Linux-amd64) machine=x86_64-unknown-linux-musl ;;
    Linux-aarch64 | Linux-arm64) machine=aarch64-unknown-linux-musl ;;
    Darwin-x86_64) machine=x86_64-apple-darwin ;;
    Darwin-arm64) machine=aarch64-apple-darwin ;;
    *)
        warn "there is no Codex release for $(uname -s) on $(uname -m)"
        return 1
        ;;
    esac
    name=codex-$machine
    say "Installing Codex from its latest release"
    curl -fsSL "$GITHUB_API_URL/repos/openai/codex/releases/latest" -H 'Accept: application/vnd.github+json' \
        --connect-timeout 10 --max-time 60 -o "$WORK/release.json" </dev/null || return 1
    if ! read -r url sum < <(read_release "$WORK/release.json" "$name.tar.gz"); then
        warn "the release has no $name.tar.gz with a SHA-256 checksum"
        return 1
    fi
    curl -fsSL "$url" --connect-timeout 10 --max-time 900 -o "$WORK/codex.tar.gz" </dev/null || return 1
    if [ "$(sha256_of "$WORK/codex.tar.gz")" != "$sum" ]; then
        warn "the checksum of $url is wrong; it is not installed"
        return 1
    fi
    unpack_codex "$WORK/codex.tar.gz" "$WORK/codex" "$name" && place "$WORK/codex" "$BIN/codex" 0755
}

install_codex() {
    local found
    if found=$(find_codex); then
        say "Codex is already installed: $found"
    elif install_codex_by_npm || install_codex_from_github; then
        if found=$(find_codex); then
            say "Codex is installed: $found"
        else
            warn "Codex was installed but is not on PATH; add the folder of codex to PATH"
        fi
    else
        warn "Codex could not be installed. cdx needs it: npm install -g @openai/codex"
        warn "or take a release from https://github.com/openai/codex/releases and put it on PATH as codex"
    fi
}

# What puts $BIN on the PATH of the user's shell.
path_advice() {
    case "${SHELL:-}" in
    */fish) printf 'fish_add_path %s\n' "$BIN" ;;
    */zsh) printf "echo 'export PATH=\"%s:\$PATH\"' >>~/.zshrc\n" "$BIN" ;;
    *) printf "echo 'export PATH=\"%s:\$PATH\"' >>~/.bashrc\n" "$BIN" ;;
    esac
}

main() {
    WORK=$(mktemp -d)
    trap 'rm -rf "$WORK"' EXIT
    say "Installing Codex for $FQDN via $BASE_URL"
    check_needs

    say "Downloading cdx $WRAPPER_VERSION"
    download_wrapper "$WORK/cdx"
    [ "$(sha256_of "$WORK/cdx")" = "$WRAPPER_SHA256" ] ||
        die "the checksum of the downloaded cdx is wrong. Ask your admin for a new installer: cdxsync hosts register $FQDN"

    # Where env takes no options (BusyBox), cdx sees to it itself that nothing of the user's Python gets into it.
    if ! /usr/bin/env -S 'true -x' 2>/dev/null; then
        python3 -IS -c 'import sys
with open(sys.argv[1], "r+b") as file:
    data = file.read().replace(b"#!/usr/bin/env -S python3 -IS\n", b"#!/usr/bin/env python3\n", 1)
    file.seek(0)
    file.write(data)
    file.truncate()' "$WORK/cdx" </dev/null
    fi

    # cdx holds this host's key: its owner can read and run it, and the group in CDX_GROUP when there is one.
    local mode=0700
    if [ -n "${CDX_GROUP:-}" ]; then
        chgrp "$CDX_GROUP" "$WORK/cdx" || die "cannot give cdx to the group $CDX_GROUP: make the group, or be a member of it, $AGAIN"
        mode=0750
    fi
    if [ "$(id -u)" = 0 ]; then
        BIN=/usr/local/bin
    else
        BIN=$HOME/.local/bin
    fi
    place "$WORK/cdx" "$BIN/cdx" "$mode" || die "cannot write $BIN/cdx: fix the problem above, $AGAIN"
    say "Installed $BIN/cdx"

    install_codex

    say "Fetching credentials"
    "$BIN/cdx" --wrapper-sync </dev/null || die "cdx is installed, but its first sync failed (see above). Run $BIN/cdx --doctor to find out why"

    case "${CDX_WATCH:-0}" in
    0) ;;
    *)
        say "Installing the background sync"
        "$BIN/cdx" --watch install </dev/null ||
            warn "the background sync is not installed (see above). To try again: $BIN/cdx --watch install"
        ;;
    esac

    if [ "$(id -u)" = 0 ] && [ -z "${CDX_GROUP:-}" ]; then
        say "Only root can run it. To allow a group: chgrp GROUP $BIN/cdx && chmod 0750 $BIN/cdx"
    fi
    case ":$PATH:" in
    *":$BIN:"*) say "Done. Run: cdx" ;;
    *)
        say "Done. Run: $BIN/cdx"
        say "To run it as cdx: $(path_advice)"
        ;;
    esac
}

main "$@"
