#!/usr/bin/env bash
# A Docker engine where there is none: that of Debian 13, in namespaces of its own; as root.
# It pulls no images: compose_images.Dockerfile makes those that compose.yaml and Dockerfile name of Debian 13's programs.
#
#   compose_engine.sh in COMMAND...   run a command with it; engine and containers end with the command
#
# ENGINE is the folder of its programs and data; the programs in the images are those of latest_servers.sh.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/../.."

export ENGINE=${ENGINE:-/var/tmp/pocketwatch-engine}
export LATEST_SERVERS=${LATEST_SERVERS:-/var/tmp/pocketwatch-latest-servers}
SUPPORT=tests/support NAMES='rabbitmq postgres redis axllent/mailpit python'
PACKAGES='docker.io docker-cli docker-compose docker-buildx containerd runc tini iptables python3-pip'
TAGS=$(grep -hoE '(image: |PYTHON_IMAGE=)\S+$' compose.yaml Dockerfile | sed 's/.*[ =]//')
VERSION=$(cat $SUPPORT/compose_* requirements{,-build}.lock - <<<"$TAGS" | sha256sum | head -c 12)

fetch() { # all that needs the network
    [ "$(id -u)" = 0 ] || fail "not root"
    unshare --net --mount true || fail "no namespaces"
    mkdir -p "$ENGINE" && exec 9<"$ENGINE" && flock 9 # one engine at a time, until its last process has ended
    [ -d "$LATEST_SERVERS/usr" ] || $SUPPORT/latest_servers.sh build || fail "no packages of Debian 13"
    [ -d "$ENGINE/programs" ] || LATEST_SERVERS=$ENGINE/programs $SUPPORT/latest_servers.sh build "$PACKAGES" ||
        fail "no packages of Debian 13"
    [ -e "$ENGINE/wheels/$VERSION" ] || wheels || fail "no packages of requirements.lock"
}

wheels() { # for the Python that is in the images
    rm -rf "$ENGINE/wheels"
    for lock in requirements{,-build}.lock; do
        LATEST_SERVERS=$ENGINE/programs $SUPPORT/latest_servers.sh in /usr/bin/python3 -m pip download -qq \
            --only-binary=:all: --no-deps --require-hashes -r "$lock" -d "$ENGINE/wheels" || return
    done
    touch "$ENGINE/wheels/$VERSION"
}

inside() { # the first process of the namespaces
    mount -t tmpfs tmpfs /run && mkdir -p "$ENGINE/usr"
    mount -t overlay overlay -o "lowerdir=$ENGINE/programs/usr:$LATEST_SERVERS/usr" "$ENGINE/usr"
    mount --bind /usr/local "$ENGINE/usr/local" && mount --rbind "$ENGINE/usr" /usr
    ip link set lo up
    ln -s /usr/sbin/xtables-nft-multi /run/iptables
    export PATH=/run:/usr/sbin:/usr/bin:$PATH
    dockerd --data-root "$ENGINE/data" --ip6tables=false --dns=127.0.0.1 --log-level=warn \
        >"$ENGINE/log" 2>&1 </dev/null &
    for _ in {1..150}; do docker info >/dev/null 2>&1 && break || sleep 0.2; done
    docker info >/dev/null || fail "dockerd ended, see $ENGINE/log"
    docker ps -aq | xargs -r docker rm -fv >/dev/null # of a run that was killed
    docker image inspect "debian:$VERSION" >/dev/null 2>&1 || images
    "$@"
}

images() {
    local root name tag
    docker system prune --all --force --volumes >/dev/null
    root=$(mktemp -d) && chmod 755 "$root"
    mkdir "$root"/{etc,opt,proc,root,run,srv,sys,tmp,var}
    for folder in bin lib lib64 sbin; do ln -s usr/$folder "$root/$folder"; done
    tar -c --exclude=usr/{local,share/{doc,locale},lib/chromium,bin/{docker,containerd}\*,{sbin,libexec}/docker\*} \
        -C / usr -C "$ENGINE" wheels -C "$root" . | docker import - debian >/dev/null
    rm -r "$root"
    for name in $NAMES; do
        tag=$(grep "^$name:" <<<"$TAGS")
        docker build --progress=plain --target "${name##*/}" -t "$tag" - \
            <$SUPPORT/compose_images.Dockerfile >>"$ENGINE/log" 2>&1 || fail "no image $tag, see $ENGINE/log"
    done
    docker tag debian "debian:$VERSION"
}

fail() {
    echo "A Docker engine cannot run here: $1" >&2
    exit 1
}

case ${1-} in
in) shift && fetch && exec unshare --net --pid --fork --kill-child --mount-proc --propagation private \
    $SUPPORT/compose_engine.sh inside "$@" ;;
inside) shift && inside "$@" ;;
*) sed -n '2,7s/^# \?//p' "$0" >&2 && exit 2 ;;
esac
