#!/usr/bin/env bash
# RabbitMQ 4, PostgreSQL 17 and Redis 8: the programs of Debian 13, on a machine of Debian 12; as root.
#
#   latest_servers.sh build [NAME...] unpack the packages, or those named, into a new folder; nothing is installed
#   latest_servers.sh in COMMAND...   run a command that finds these programs in place of the machine's own
#
# LATEST_SERVERS is the folder.
set -euo pipefail

FOLDER=${LATEST_SERVERS:-/var/tmp/pocketwatch-latest-servers}
# The servers; what the tests start; the libraries of a Python that was built on Debian 12.
PACKAGES='rabbitmq-server postgresql-17 redis-server pgbouncer libfaketime libnsl2 make git procps e2fsprogs mount iproute2
    passwd curl ca-certificates gettext chromium fonts-dejavu-core'

build() {
    local new=$FOLDER.new names=${*:-$PACKAGES}
    if [ "$(cat "$FOLDER/packages" 2>/dev/null)" = "$names" ]; then return; fi
    local apt=(-qq -o Dir::State="$new/apt" -o Dir::State::status="$new/apt/status" -o Dir::Cache="$new/apt"
        -o Dir::Etc::sourcelist="$new/apt/sources" -o Dir::Etc::sourceparts=- -o APT::Install-Recommends=false)
    rm -rf "$new" && mkdir -p "$new/apt/lists/partial" "$new/apt/archives/partial" "$new/root"
    : >"$new/apt/status"
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $(mirror) trixie main" >"$new/apt/sources"
    apt-get "${apt[@]}" update
    # shellcheck disable=SC2086  a list of names
    apt-get "${apt[@]}" -y --download-only install $names '?essential'
    for package in "$new"/apt/archives/*.deb; do dpkg-deb -x "$package" "$new/root"; done
    # What the packages' own scripts would have made.
    ln -sf mawk "$new/root/usr/bin/awk" && ln -sf which.debianutils "$new/root/usr/bin/which"
    mkdir -p "$new/root/usr/local"
    chmod 755 "$new/root"
    echo "$names" >"$new/root/packages"
    rm -rf "$FOLDER"
    mv -T "$new/root" "$FOLDER"
    rm -rf "$new"
}

mirror() { # where this machine's own apt fetches Debian from
    # shellcheck disable=SC1091
    apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' "Codename: $(. /etc/os-release && echo "$VERSION_CODENAME")" |
        head -n 1
}

inside() { # in a mount namespace of its own, which ends with the command
    if [ -z "${LATEST_SERVERS-}" ] || [ ! -d "$FOLDER/usr" ]; then build; fi
    export SERVERS=latest
    exec unshare --mount --propagation private sh -c \
        'mount --bind /usr/local "$0/usr/local" && mount --rbind "$0/usr" /usr && cd . && exec "$@"' "$FOLDER" "$@"
}

case ${1-} in
build) shift && build "$@" ;;
in) shift && inside "$@" ;;
*) sed -n '2,8s/^# \?//p' "$0" >&2 && exit 2 ;;
esac
