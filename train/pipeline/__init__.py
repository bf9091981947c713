"""What a command sets going, from dataset to report: the plan, the run, the export."""
