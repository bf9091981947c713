"""The terminal UI: screens over one `Project`. Nothing outside this folder imports textual or rich."""
