#!/bin/sh
# switch.sh MACHINE: make the machine a switch: it forwards, spreads flows over equal paths, and runs FRR.
set -eu
machine=${1:?usage: switch.sh MACHINE}
here=$(dirname "$0")
"$here/network.sh" "$machine"

cat >/etc/sysctl.d/90-netfabric-switch.conf <<END
net.ipv4.ip_forward = 1
net.ipv6.conf.all.forwarding = 1
net.ipv4.fib_multipath_hash_policy = 1
net.ipv6.fib_multipath_hash_policy = 1
END
sysctl -q --system

command -v vtysh >/dev/null || {
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends frr
}
sed -i 's/^bgpd=no/bgpd=yes/' /etc/frr/daemons
install -o frr -g frr -m 640 "$here/frr/$machine.conf" /etc/frr/frr.conf
systemctl enable --now frr
systemctl restart frr
