#!/bin/sh
# controller.sh ADDRESS: run etcd and netmaster as services on this machine; ADDRESS is how the others reach it.
set -eu
address=${1:?usage: controller.sh ADDRESS}
here=$(cd "$(dirname "$0")" && pwd)
"$here/software.sh"

install -d /etc/netfabric
cat >/etc/netfabric/netmaster.toml <<END
store = "etcd://127.0.0.1:2379"
rest = "0.0.0.0:9999"
grpc = "0.0.0.0:50051"
END
cat >/etc/default/etcd <<END
# Without the first its database grows for ever; without the second a large network cannot be removed.
ETCD_AUTO_COMPACTION_RETENTION=1h
ETCD_MAX_TXN_OPS=8192
END
cat >/etc/systemd/system/netmaster.service <<END
[Unit]
Description=netfabric's controller
After=network-online.target etcd.service
Wants=network-online.target etcd.service

[Service]
ExecStart=/opt/netfabric/.venv/bin/netmaster
Restart=always

[Install]
WantedBy=multi-user.target
END
systemctl daemon-reload
systemctl enable etcd netmaster
systemctl restart etcd netmaster  # etcd may run already, with its package's settings

export NETMASTER="http://$address:9999"
tries=0
until netctl version >/dev/null 2>&1; do
    tries=$((tries + 1))
    [ "$tries" -lt 60 ] || {
        echo "controller.sh: netmaster at $NETMASTER does not answer: journalctl -u netmaster" >&2
        exit 1
    }
    sleep 1
done
"$here/intent.sh"
