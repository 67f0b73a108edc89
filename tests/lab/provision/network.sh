#!/bin/sh
# network.sh MACHINE: give the machine's network cards their addresses, from the table `links`, and keep them so.
#
# The first card is Vagrant's own; the others come in the order of the table.
set -eu
machine=${1:?usage: network.sh MACHINE}
here=$(dirname "$0")

cards() {
    find /sys/class/net -type l -printf '%f\n' | grep -v '^lo$' | sort -V
}

number=1
cards >/tmp/cards
: >/etc/network/interfaces.d/netfabric
while read -r name wire v4 v6; do
    [ "$name" = "$machine" ] || continue
    number=$((number + 1))
    card=$(sed -n "${number}p" /tmp/cards)
    [ -n "$card" ] || {
        echo "network.sh: $machine has no card number $number for the wire $wire" >&2
        exit 1
    }
    {
        printf 'auto %s\n# %s\n' "$card" "$wire"
        printf 'iface %s inet static\n    address %s\n' "$card" "$v4"
        [ "$v6" = - ] || printf 'iface %s inet6 static\n    address %s\n    dad-attempts 0\n' "$card" "$v6"
    } >>/etc/network/interfaces.d/netfabric
done <"$here/links"
rm -f /tmp/cards
grep -q interfaces.d /etc/network/interfaces || echo 'source /etc/network/interfaces.d/*' >>/etc/network/interfaces
awk '$1 == "auto" { print $2 }' /etc/network/interfaces.d/netfabric | while read -r card; do
    ip address flush dev "$card"
    ifdown --force "$card" 2>/dev/null || true
    ifup "$card"
done
