"""curate: validate, dedupe, split and export instruction data; the workshop half of pairsmith."""
