"""From a dataset to rows of token ids and masks: read, rendered by the model's own template, mixed."""
