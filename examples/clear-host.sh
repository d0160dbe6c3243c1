#!/bin/sh
# Clear what the server remembers of a host's credentials, and say what was removed. See README.md.
set -eu

if [ $# -ne 1 ] || [ "$1" = -h ] || [ "$1" = --help ]; then
    cat >&2 <<'END'
Usage: clear-host.sh HOST      HOST is a name or an id

Exit status: that of `cdxsync hosts clear`; 3 for a host that is not registered, 2 for wrong usage.
END
    exit 2
fi
host=$1 tries=3 pause=5

try=1
while :; do
    code=0
    answer=$(cdxsync hosts clear "$host" --yes --json </dev/null) || code=$?
    # Only a database that is away may be back later.
    if [ "$code" -ne 5 ] || [ "$try" -ge "$tries" ]; then break; fi
    sleep "$pause"
    pause=$((pause * 2)) try=$((try + 1))
done
[ "$code" -eq 0 ] || exit "$code"

printf '%s\n' "$answer" | python3 -I -c '
import json, sys

data = json.load(sys.stdin)
print("Cleared", data["host"]["fqdn"])
for name, value in data["cleared"].items():
    print(f"  {name}: {value}")
'
