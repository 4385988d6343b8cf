"""One small file per model family; `base` is the protocol, `catalog` knows the names."""
