"""Docker: network driver and IPAM driver of the container network model, on a plugin socket."""
