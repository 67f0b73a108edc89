"""netmaster's REST API."""
