
# shellcheck shell=bash
WRAPPER_VERSION=@@WRAPPER_VERSION@@
WRAPPER_SHA256=@@WRAPPER_SHA256@@

# Downloads the wrapper into $1; the key goes by a file, never by the command line.
download_wrapper() {
    cat >"$WORK/headers" <<'HEADERS'
X-API-Key: @@API_KEY_TEXT@@
HEADERS
    curl -fsSL "@@BASE_URL_TEXT@@/wrapper/download" "${CURL_OPTIONS[@]}" -H @"$WORK/headers" -o "$1" </dev/null ||
        die "cannot download cdx from $BASE_URL: fix what curl reports above, $AGAIN"
}

sha256_of() {
    python3 -IS -c 'import hashlib, sys; print(hashlib.sha256(open(sys.argv[1], "rb").read()).hexdigest())' "$1" </dev/null
}

# Puts file $1 at $2 with mode $3, in one step.
place() {
    local target=$2 directory
    directory=$(dirname "$target")
    make_folder "$directory" || return 1
    cp -p "$1" "$directory/.cdx-install.$$" && chmod "$3" "$directory/.cdx-install.$$" &&
        mv -f "$directory/.cdx-install.$$" "$target" && return 0
    rm -f "$directory/.cdx-install.$$"
    return 1
}

# The first codex on PATH or in the usual places that is not cdx.
find_codex() {
    local directory path="$PATH:/usr/local/bin:/opt/codex/bin:$HOME/.local/bin:$BIN"
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

# The whole package, verified and unpacked by cdx, which updates it later.
install_codex_from_github() {
    say "Installing Codex from its latest release"
    "$BIN/cdx" --wrapper-install-codex latest "$BIN/codex" </dev/null
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

# The folders on the way to $BIN that the group cannot enter.
closed_folders() {
    python3 -IS - "$BIN" "$BIN/cdx" <<'PYTHON'
import os, sys

folder, group = os.path.realpath(sys.argv[1]), os.stat(sys.argv[2]).st_gid
while True:
    status = os.stat(folder)
    if not status.st_mode & (0o010 if status.st_gid == group else 0o001):
        print(folder)
    if folder == "/":
        break
    folder = os.path.dirname(folder)
PYTHON
}

main() {
    local closed before
    say "Installing Codex for $FQDN via $BASE_URL"
    check_machine

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
        chgrp "$CDX_GROUP" "$WORK/cdx" || die "cannot give cdx to the group $CDX_GROUP: see above, $AGAIN"
        mode=0750
    fi
    before=$(sed -n 's/^CODEX_SYNC_FQDN *= *"\([^"]*\)"$/\1/p' "$BIN/cdx" 2>/dev/null | head -n 1) || before=
    place "$WORK/cdx" "$BIN/cdx" "$mode" || die "cannot write $BIN/cdx: fix the problem above, $AGAIN"
    say "Installed $BIN/cdx"
    if [ -n "$before" ] && [ "$before" != "$FQDN" ]; then
        warn "it was the cdx of $before, whose key is gone with it. Where both are to work here, each needs a folder:" \
            "have your admin register $before again, and put 'export CDX_BIN=FOLDER;' before that line"
    fi
    if [ -n "${CDX_GROUP:-}" ] && closed=$(closed_folders) && [ -n "$closed" ]; then
        warn "members of $CDX_GROUP cannot enter ${closed//$'\n'/, }. Let them: chmod a+x ${closed//$'\n'/ }"
    fi

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
