"""netlab: the whole fabric in network namespaces."""
