#!/bin/sh
# intent.sh: what the operator tells netmaster: a network, each host's AS and its ToR, over IPv4 and IPv6.
#
# NETMASTER says where netmaster is: http://ADDRESS:9999
set -eu
netctl tenant create default
netctl network create lab --subnet 10.1.0.0/16 --subnetv6 fd10:1::/64

host() {
    name=$1 asn=$2 router_ip=$3 tor=$4 tor_asn=$5 tor_v4=$6 tor_v6=$7
    netctl bgp create "$name" --router-ip "$router_ip" --as "$asn"
    netctl peer create "$name" "$tor" --address "$tor_v4" --as "$tor_asn"
    netctl peer create "$name" "$tor-v6" --address "$tor_v6" --as "$tor_asn"
}

host host1 4200000001 172.16.0.1/31 tor1a 65101 172.16.0.0 fd16::
host host2 4200000002 172.16.0.3/31 tor1a 65101 172.16.0.2 fd16::2
host host3 4200000003 172.16.0.5/31 tor2a 65102 172.16.0.4 fd16::4
