"""netmaster's part in a Kubernetes cluster: its objects followed over the API, and what follows from them stored."""
