#!/bin/sh
# Give many hosts a new key, one after the other, and deliver the installers. See README.md.
set -eu
umask 077

usage() {
    cat <<'END'
Usage: rotate-hosts.sh [OPTION]... FILE      hosts of a file, a name a line, # begins a comment; - for standard input
       rotate-hosts.sh [OPTION]... --all     all hosts of the server

  --output DIR        where installer commands are kept, a file NAME.sh (mode 0600) a host. Default: ./installers
  --deliver COMMAND   run this for each host, {host} standing for its name, with the installer command on standard
                      input, for example 'ssh {host} sh'; a delivered installer is used up, and its file removed
  --tries N           how often a host is tried. Default: 3
  --wait SECONDS      how long to wait before the second try; twice as long before each further one. Default: 5

The old key of a host ends at once. Exit status: 0 all done, 1 some failed, 2 wrong usage.
END
}

say() {
    printf 'rotate-hosts: %s\n' "$*" >&2
}

wrong() {
    say "$*"
    usage >&2
    exit 2
}

is_number() {
    case $1 in '' | *[!0-9]*) return 1 ;; esac
}

# A name that is safe as a file name and within a command; not an id, which a delivery could not use.
is_name() {
    case $1 in
        '' | -* | .* | *[!a-z0-9.-]*) return 1 ;;
        *[!0-9]*) return 0 ;;
        *) return 1 ;;
    esac
}

output=installers deliver='' tries=3 wait=5 all='' list=''
while [ $# -gt 0 ]; do
    case $1 in
        --output | --deliver | --tries | --wait)
            [ $# -ge 2 ] || wrong "$1 needs a value"
            case $1 in
                --output) output=$2 ;;
                --deliver) deliver=$2 ;;
                --tries) tries=$2 ;;
                --wait) wait=$2 ;;
            esac
            shift
            ;;
        --all) all=yes ;;
        -h | --help)
            usage
            exit 0
            ;;
        -?*) wrong "unknown option $1" ;;
        *)
            [ -z "$list" ] || wrong "only one file can be given"
            list=$1
            ;;
    esac
    shift
done
[ -n "$all$list" ] || wrong "name a file of hosts, or --all"
if [ -n "$all" ] && [ -n "$list" ]; then wrong "either a file or --all"; fi
if ! is_number "$tries" || [ "$tries" -eq 0 ]; then wrong "--tries must be a number above 0"; fi
is_number "$wait" || wrong "--wait must be a number of seconds"
command -v cdxsync >/dev/null || wrong "cdxsync is not on PATH"

if [ -n "$all" ]; then
    hosts=$(cdxsync hosts list --json </dev/null) || exit 1
    names=$(printf '%s\n' "$hosts" |
        python3 -I -c 'import json, sys; [print(host["fqdn"]) for host in json.load(sys.stdin)["hosts"]]')
elif [ "$list" = - ]; then
    names=$(cat)
elif [ -r "$list" ] && [ ! -d "$list" ]; then
    names=$(cat -- "$list")
else
    wrong "$list: cannot be read"
fi
# Without comments, blank lines and repetitions: a second rotation would void the first one's installer.
names=$(printf '%s\n' "$names" | tr '[:upper:]' '[:lower:]' |
    sed -e 's/#.*//' -e 's/^[[:space:]]*//' -e 's/[[:space:]]*$//' -e '/^$/d' | awk '!seen[$0]++')

mkdir -p -- "$output"
output=$(cd -- "$output" && pwd)
draft=$(mktemp "$output/.draft.XXXXXX")
errors=$(mktemp "$output/.errors.XXXXXX")
report='' done_count=0 failed_count=0 current=''
finish() {
    rm -f -- "$draft" "$errors"
    if [ -n "$current" ]; then
        report="${report}failed   $current: interrupted; its old key may have ended
"
        failed_count=$((failed_count + 1))
    fi
    printf '%s%s rotated, %s failed\n' "$report" "$done_count" "$failed_count"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# One try. On failure `problem` says why, and `final` whether another try is useless.
rotate() {
    final='' code=0
    cdxsync --quiet hosts rotate --yes "$host" >"$draft" 2>"$errors" </dev/null || code=$?
    if [ "$code" -ne 0 ] || [ ! -s "$draft" ]; then
        problem=$(tr '\n' ' ' <"$errors" | sed 's/ *$//')
        problem=${problem:-cdxsync ended with $code}
        case $code in 2 | 3 | 4) final=yes ;; esac
        return 1
    fi
    mv -f -- "$draft" "$output/$host.sh"
    [ -n "$deliver" ] || return 0
    command=$(printf '%s\n' "$deliver" | sed "s/{host}/$host/g")
    # What the command says may repeat its input, the installer: it goes where only we can read it.
    sh -c "$command" <"$output/$host.sh" >"$output/$host.log" 2>&1 || {
        problem="not delivered (status $?): see $output/$host.log"
        return 1
    }
    rm -f -- "$output/$host.sh" "$output/$host.log"
}

while IFS= read -r host; do
    [ -n "$host" ] || continue
    result=failed try=1 pause=$wait current=$host
    if ! is_name "$host"; then
        problem='not a host name'
    else
        while :; do
            if rotate; then
                result=rotated
                break
            fi
            say "$host, try $try of $tries: $problem"
            if [ -n "$final" ] || [ "$try" -ge "$tries" ]; then break; fi
            sleep "$pause"
            pause=$((pause * 2)) try=$((try + 1))
        done
    fi
    current=''
    if [ "$result" = failed ]; then
        failed_count=$((failed_count + 1))
        detail=$problem
    else
        done_count=$((done_count + 1))
        if [ -n "$deliver" ]; then detail=delivered; else detail=$output/$host.sh; fi
    fi
    report="$report$(printf '%-8s %s: %s' "$result" "$host" "$detail")
"
done <<END
$names
END

[ "$failed_count" -eq 0 ]
