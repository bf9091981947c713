"""What a model answers and how likely it finds the references: generation, choices, metrics, predictions."""
