"""Models that are asked: a base, a run, an adapter, a .gguf file, or one behind an endpoint; one kind a file."""
