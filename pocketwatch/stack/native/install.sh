#!/bin/sh
# Install Debian packages of servers without starting one, now or at the next boot: as root, install.sh PACKAGE...
set -eu
export DEBIAN_FRONTEND=noninteractive

POLICY=/usr/sbin/policy-rc.d
CLUSTERS=/etc/postgresql-common/createcluster.conf
CLUSTERS_DEFAULT=/usr/share/postgresql-common/createcluster.conf
UNITS='rabbitmq-server:rabbitmq-server.service
redis-server:redis-server.service
postgresql:postgresql.service
pgbouncer:pgbouncer.service
erlang-base:epmd.service
erlang-base:epmd.socket'

installed() {
    [ "$(dpkg-query --show --showformat='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

put_back() {
    if [ -n "${made_policy-}" ]; then rm -f "$POLICY"; fi
    if [ -n "${made_clusters-}" ]; then
        if [ -e "$CLUSTERS_DEFAULT" ]; then cp "$CLUSTERS_DEFAULT" "$CLUSTERS"; else rm -f "$CLUSTERS"; fi
    fi
}
trap put_back EXIT
trap 'exit 1' HUP INT TERM

# Services that were installed before stay enabled.
new=
for line in $UNITS; do
    if ! installed "${line%%:*}"; then new="$new ${line##*:}"; fi
done

# No package script may start a service. A file with our mark was left by an installation that was killed.
if [ ! -e "$POLICY" ] || grep -q 'made by pocketwatch' "$POLICY"; then
    made_policy=yes
    printf '#!/bin/sh\n# made by pocketwatch during an installation\nexit 101\n' >"$POLICY"
    chmod 755 "$POLICY"
fi

# No "main" cluster on port 5432.
if [ ! -e "$CLUSTERS" ] || grep -q 'made by pocketwatch' "$CLUSTERS"; then
    made_clusters=yes
    mkdir -p "${CLUSTERS%/*}"
    printf '# made by pocketwatch during an installation\ncreate_main_cluster = false\n' >"$CLUSTERS"
fi

apt() {
    apt-get -qq -y -o DPkg::Lock::Timeout=120 -o Dpkg::Use-Pty=0 -o Dpkg::Options::=--force-confold "$@" </dev/null
}
# The package lists may be missing or old.
apt install --no-install-recommends "$@" || { apt update && apt install --no-install-recommends "$@"; }

# Only where systemd runs; a container may have nothing but the program.
if [ -d /run/systemd/system ]; then
    for unit in $new; do systemctl disable --quiet "$unit" 2>/dev/null || true; done
fi
