#!/bin/sh
# install.sh lab|test|engines: what the lab (or the tests besides, or those with container engines) needs, where it
# is missing; says what it does.
#
# Debian packages, the Python environment .venv/ with netfabric in it, and the CNI plugin. Services that the
# packages bring are not started: the lab runs switches and etcd by itself, in network namespaces of its own.
set -eu
cd "$(dirname "$0")/../.."

LAB="python3 python3-venv gcc libc6-dev iproute2 iputils-ping nftables procps util-linux
     etcd-server etcd-client frr bird2 gobgpd"
TEST="containernetworking-plugins openssl iperf3 tcpdump shellcheck ruby git
      busybox-static user-mode-linux"
ENGINES="podman runc containerd tini busybox-static"
DOCKER="docker.io iptables"
SERVICES="etcd frr bird bird6 gobgpd docker containerd podman"
POLICY=/usr/sbin/policy-rc.d

say() { printf 'install: %s\n' "$*"; }

die() {
    printf 'install: %s\n' "$*" >&2
    exit 1
}

missing() {
    for package in "$@"; do
        state=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
        [ "$state" = installed ] || printf '%s ' "$package"
    done
}

debian_packages() {
    # shellcheck disable=SC2046,SC2086
    wanted=$(missing $1)
    [ -n "$wanted" ] || return 0
    [ "$(id -u)" = 0 ] || die "these packages are missing: $wanted; run as root, or install them yourself"
    say "Debian packages: $wanted"
    [ -e $POLICY ] || {
        printf '#!/bin/sh\nexit 101\n' >$POLICY
        chmod +x $POLICY
        trap 'rm -f $POLICY' EXIT
    }
    apt-get update -qq || die "apt-get update failed: is a mirror reachable?"
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $wanted >/dev/null ||
        die "apt-get could not install: $wanted"
    if [ -d /run/systemd/system ]; then
        for service in $SERVICES; do
            case " $wanted" in *" $service"*) systemctl disable --now "$service" 2>/dev/null || true ;; esac
        done
    fi
}

python_environment() {
    [ -x .venv/bin/python ] || {
        say "Python environment .venv/"
        /usr/bin/python3 -m venv .venv
    }
    say "Python packages of netfabric${1:-}"
    .venv/bin/pip install -q --disable-pip-version-check --use-pep517 -e ".${1:-}"
}

command -v dpkg-query >/dev/null || die "this installs Debian packages: use Debian 12 or newer, or Ubuntu 24.04 or newer"
case "${1:-}" in
lab)
    debian_packages "$LAB"
    python_environment "[kubernetes]"
    say "CNI plugin"
    .venv/bin/python -m netfabric.agent.cni.build
    ;;
test)
    debian_packages "$TEST"
    python_environment "[dev,kubernetes]"
    ;;
engines)
    debian_packages "$ENGINES"
    # Another Docker than Debian's would have to go for it: the tests take what is there.
    command -v dockerd >/dev/null || debian_packages "$DOCKER"
    ;;
*) die "usage: install.sh lab|test|engines" ;;
esac
