"""ExaBGP as a process: configuration, commands, events, supervision."""
