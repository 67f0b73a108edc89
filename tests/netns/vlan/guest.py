"""A guest: another kernel that runs a command on this machine's own root, read-only under an overlay.

User Mode Linux (Debian's package user-mode-linux) is a whole Linux as a process, without KVM. It has what
the kernel at hand may lack: 802.1Q links, VLAN-filtering bridges. It has nftables for bridges alone.
"""

import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path

KERNEL = Path("/usr/bin/linux.uml")
MODULES = Path("/usr/lib/uml/modules")
WANTED = ("8021q", "bridge", "dummy", "veth", "vxlan", "tun", "sch_ingress")

_INIT = """#!/bin/sh
mount -t tmpfs w /mnt; mkdir /mnt/u /mnt/w /mnt/n; cd /mnt
mount -n -t proc p /proc; mount -n -t sysfs s /sys
busybox insmod {modules}/kernel/fs/overlayfs/overlay.ko
mount -t overlay -o lowerdir=/,upperdir=/mnt/u,workdir=/mnt/w o /mnt/n || busybox poweroff -f
cd /mnt/n; mkdir -p run lib/modules/{version} {out}
busybox mount --move /proc proc; busybox mount --move /sys sys
mount -t hostfs -o {out} o .{out}; mount -t devtmpfs d dev
mkdir -p dev/pts dev/shm dev/net; mount -t devpts p dev/pts
mount -t tmpfs r run; mount -t tmpfs s dev/shm; mount --bind .{modules} lib/modules/{version}
mkdir run/netns
exec chroot /mnt/n /bin/sh {out}/run.sh
"""
_RUN = """export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root PYTHONDONTWRITEBYTECODE=1
ip link set lo up
for module in {wanted}; do busybox modprobe -q $module; done
cd {directory}
{command} </dev/null >{out}/output 2>&1
echo $? >{out}/status
sync; busybox poweroff -f
"""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a command in a guest came to."""

    status: int | None
    """None: it did not come to an end."""
    output: str


def run(command: list[str], out: Path, timeout: float, memory: str = "768M") -> Outcome:
    """Boot a guest, run a command there in the caller's directory, and turn it off again: some 3 s besides."""
    version = next(MODULES.iterdir()).name
    modules = MODULES / version
    init = out / "init"
    init.write_text(_INIT.format(modules=modules, version=version, out=out))
    init.chmod(0o755)
    words = shlex.join(command)
    wanted = " ".join(WANTED)
    (out / "run.sh").write_text(
        _RUN.format(wanted=wanted, directory=Path.cwd(), command=words, out=out)
    )
    boot = [
        *("timeout", "--kill-after=2", str(timeout), str(KERNEL)),
        *(
            "umid=guest",
            f"uml_dir={out}",
            f"mem={memory}",
            "rootfstype=hostfs",
            "rootflags=/",
            "ro",
        ),
        *("quiet", "loglevel=1", f"init={init}", "con=null", "con0=null,fd:1", "panic=-1"),
    ]
    done = subprocess.run(
        boot, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    status, output = out / "status", out / "output"
    return Outcome(
        int(status.read_text()) if status.exists() else None,
        output.read_text() if output.exists() else done.stdout + done.stderr,
    )
