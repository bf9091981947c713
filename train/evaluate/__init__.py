"""What a model answers and how likely it finds what it should: generation, choices, metrics, predictions."""
