"""The networks, one paper a file: tensors in, tensors out; no disk, no network."""
