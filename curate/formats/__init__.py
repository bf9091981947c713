"""File formats: importers, exporters, reports of findings, and the dataset itself."""
