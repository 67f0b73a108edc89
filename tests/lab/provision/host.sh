#!/bin/sh
# host.sh MACHINE NETMASTER: make the machine a host: netplugin as a service, and its CNI configuration.
#
# NETMASTER is HOST:PORT of netmaster's gRPC port. The checkout is expected beside this script.
set -eu
machine=${1:?usage: host.sh MACHINE NETMASTER}
netmaster=${2:?usage: host.sh MACHINE NETMASTER}
here=$(cd "$(dirname "$0")" && pwd)
"$here/network.sh" "$machine"
"$here/software.sh"

install -d /etc/netfabric
cat >/etc/netfabric/netplugin.toml <<END
host = "$machine"
netmaster = "$netmaster"
END
cat >/etc/systemd/system/netplugin.service <<END
[Unit]
Description=netfabric's host agent
After=network-online.target
Wants=network-online.target

[Service]
ExecStart=/opt/netfabric/.venv/bin/netplugin
Restart=always
KillMode=process

[Install]
WantedBy=multi-user.target
END
/opt/netfabric/.venv/bin/netplugin install-cni --network lab
systemctl daemon-reload
systemctl enable --now netplugin
