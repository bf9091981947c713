"""The terminal UI: screens over one `Workshop`. Nothing outside this folder imports textual or rich."""
