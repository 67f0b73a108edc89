"""How packets leave a container and a host: netlink, nothing else."""
