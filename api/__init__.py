"""netmaster and netctl: REST, gRPC, the store."""
