"""netmaster's gRPC services."""
