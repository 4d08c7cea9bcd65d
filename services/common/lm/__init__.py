"""Language models: loading, weight formats, one padded forward pass."""
