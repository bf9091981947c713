"""A folder of records under curation: its records, its journal of decisions, and the state that they make."""
