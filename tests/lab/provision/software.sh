#!/bin/sh
# software.sh: install netfabric from the checkout that this script is in to /opt/netfabric.
#
# ExaBGP runs as an unprivileged user: it must be able to read the environment, hence not below /root.
set -eu
checkout=$(cd "$(dirname "$0")/../../.." && pwd)
[ -x /opt/netfabric/.venv/bin/netplugin ] && exit 0

apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends make
install -d /opt/netfabric
tar -C "$checkout" --exclude ./.git --exclude ./.venv --exclude ./.vagrant -cf - . | tar -C /opt/netfabric -xf -
make -C /opt/netfabric install
ln -sf /opt/netfabric/.venv/bin/netctl /usr/local/bin/netctl
