"""The durable state: etcd, SQLite or memory behind one interface."""
