"""The CNI plugin: a shim that engines run, and the server in the agent that answers it."""
