"""The pure core: values in, decisions out."""
