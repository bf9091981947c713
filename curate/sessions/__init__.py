"""What a screen or a line-by-line command drives: labelling, clusters, the split, problems, edits, runs."""
