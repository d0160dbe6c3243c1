
# shellcheck shell=bash
INSTALL_URL=@@INSTALL_URL@@

main() {
    local script
    check_machine
    # From here on the installer is used up: it holds the host's key. No list of processes shows its address.
    script=$(printf 'url = "%s"\n' "$INSTALL_URL" | curl -fsSL -K - "${CURL_OPTIONS[@]}") || die "cannot fetch the installer: fix what curl reports above," \
        "then paste the same line again. When it was handed out already: cdxsync hosts register $FQDN"
    # Printed by the shell itself, and so in no such list either.
    printf '%s\n' "$script" | CDX_BIN=$BIN bash
}

main "$@"
