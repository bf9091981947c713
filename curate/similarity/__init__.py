"""What is alike: exact and near repeats, their clusters, leaks, and the division that keeps alike records together."""
