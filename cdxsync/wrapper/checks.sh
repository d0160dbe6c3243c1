#!/usr/bin/env bash
# @@TITLE@@
set -euo pipefail +C
umask 077
# No program finds anything of the folder that this was started in, which may be another user's, or removed.
STARTED_IN=$(pwd -P 2>/dev/null) || STARTED_IN=/
for name in CODEX_HOME TMPDIR; do
    case "${!name:-/}" in /*) ;; *) export "$name=$STARTED_IN/${!name}" ;; esac
done
cd /

BASE_URL=@@BASE_URL@@
# shellcheck disable=SC2034 # the parts that follow say it
FQDN=@@FQDN@@
CA_PEM=@@CA_PEM@@
# What to do once it is fixed that this fails.
AGAIN=@@AGAIN@@

say() { printf '%s\n' "$*"; }
warn() { printf 'cdx installer: %s\n' "$*" >&2; }
die() {
    warn "$*"
    exit 1
}

# Without the user's settings for it, which could turn verification off. (-q must come first.)
curl() { command curl -q "$@"; }

need() {
    type -P "$1" >/dev/null 2>&1 ||
        die "$1 is missing. Install it (apt-get install $2, dnf install $2, apk add $2 or brew install $2), $AGAIN"
}

# How curl calls the server: trusting its own CA, or without TLS, on this machine, by no proxy. With -L a redirect is an
# error, as no hop is allowed; without -L what it says would count as the answer.
set_curl_options() {
    CURL_OPTIONS=(--proto "=${BASE_URL%%:*}" --max-redirs 0 --connect-timeout 10 --max-time 120 --retry 2)
    if [ -n "$CA_PEM" ]; then
        printf '%s\n' "$CA_PEM" >"$WORK/ca.pem"
        CURL_OPTIONS+=(--cacert "$WORK/ca.pem")
    fi
    case "$BASE_URL" in http://*) CURL_OPTIONS+=(--noproxy '*') ;; esac
}

# A folder for what is needed on the way, with space in it.
make_work_folder() {
    WORK=$(mktemp -d) || die "there is no folder for temporary files: export TMPDIR=FOLDER with one that can be written to, $AGAIN"
    trap 'rm -rf "$WORK"' EXIT
    printf '%400000s\n' '' >"$WORK/probe" || die "there is no space in $WORK: make some, or export TMPDIR=FOLDER, $AGAIN"
}

# HOME may be unset, as in containers and services: then it is what the list of users says.
check_home() {
    if [ -z "${HOME:-}" ]; then
        unset HOME
        HOME=$(cd ~ >/dev/null 2>&1 && pwd) || HOME=
    fi
    case "$HOME" in
    /*) [ -d "$HOME" ] || die "HOME is $HOME, where no folder is: export HOME=FOLDER with your own, $AGAIN" ;;
    *) die "HOME is not set: export HOME=FOLDER with your own, $AGAIN" ;;
    esac
    export HOME
}

# Python and all its modules that cdx imports; Debian's python3-minimal, for one, lacks some.
check_python() {
    local missing
    need python3 python3
    python3 -IS -c 'import sys; sys.exit(sys.version_info < (3, 8))' </dev/null ||
        die "python3 is $(python3 -V 2>&1 </dev/null); cdx needs 3.8 or later. Install a newer one, $AGAIN"
    missing=$(
        python3 -IS - <<'PYTHON'
import importlib

for name in "@@MODULES@@".split():
    try:
        importlib.import_module(name)
    except ImportError:
        print(name)
PYTHON
    ) || die "python3 does not work: see above, $AGAIN"
    [ -z "$missing" ] || die "this python3 lacks the module ${missing//$'\n'/, }; python3-minimal is not enough." \
        "Install the whole of it (apt-get install python3 or dnf install python3), $AGAIN"
}

# Makes folder $1. What root installs, or a group shares, others must be able to reach.
make_folder() {
    if [ "$(id -u)" = 0 ] || [ -n "${CDX_GROUP:-}" ]; then
        (umask 022 && mkdir -p "$1")
    else
        mkdir -p "$1"
    fi
}

# Whether a program can be put into folder $1, and run there; $WORK/why says why not.
can_install() {
    local probe=$1/.cdx-probe.$$ status=0
    if [ -d "$1/cdx" ]; then
        printf '%s\n' "$1/cdx is a folder" >"$WORK/why"
        return 1
    fi
    {
        make_folder "$1" && printf '#!/bin/sh\nexit 0\n#%400000s\n' '' >"$probe" && chmod 0700 "$probe" && "$probe"
    } 2>"$WORK/why" || status=1
    rm -f "$probe" 2>/dev/null || status=1
    return "$status"
}

# Whether folder $1, or the nearest one above it that exists, can be written to.
could_install() {
    local folder=$1
    while ! [ -e "$folder" ] && [ "$folder" != / ]; do folder=$(dirname "$folder"); done
    [ -d "$folder" ] && [ -w "$folder" ]
}

# Where cdx goes: CDX_BIN, or the usual place.
choose_folder() {
    local folder
    if [ "$(id -u)" = 0 ]; then BIN=/usr/local/bin; else BIN=$HOME/.local/bin; fi
    if [ -n "${CDX_BIN:-}" ]; then BIN=${CDX_BIN%/} BIN=${BIN:-/}; fi
    case "$BIN" in /*) ;; *) die "CDX_BIN is $BIN; it must be a folder that begins with /. Correct it, $AGAIN" ;; esac
    can_install "$BIN" && return
    warn "$(tail -n 1 "$WORK/why")"
    for folder in /opt/cdx/bin "$HOME/.local/bin" "$HOME/bin"; do
        if [ "$folder" != "$BIN" ] && could_install "$folder"; then
            die "cdx cannot be installed in $BIN. Fix that, or choose another folder (export CDX_BIN=$folder), $AGAIN"
        fi
    done
    die "cdx cannot be installed in $BIN. Fix that, or choose another folder (export CDX_BIN=FOLDER), $AGAIN"
}

check_group() {
    [ -n "${CDX_GROUP:-}" ] || return 0
    chgrp "$CDX_GROUP" "$WORK/probe" ||
        die "cannot give cdx to the group $CDX_GROUP: make the group, or be a member of it, $AGAIN"
}

# It is not made here: under sudo HOME may be another user's, where cdx knows better.
check_codex_home() {
    local folder=${CODEX_HOME:-$HOME/.codex}
    could_install "$folder" ||
        die "Codex's folder $folder cannot be written to: fix that, or export CODEX_HOME=FOLDER with another, $AGAIN"
}

# All that is needed, before anything is fetched.
check_machine() {
    check_home
    need curl curl
    make_work_folder
    set_curl_options
    check_python
    choose_folder
    check_group
    check_codex_home
}
