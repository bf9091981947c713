"""train: fine-tune on a curated dataset and say, per category, whether it helped; the furnace half of pairsmith."""
