"""Records with every kind of fault, and what is found in them, for tests of problems."""

from curate.base.events import Edit

SIX = ("extract", "classify", "rewrite", "answer", "summarise", "redirect")
SETTINGS = "[split]\nseed = 1\n" + "".join(f"[categories.{name}]\n" for name in SIX)


def edit(name, **changes):
    return Edit(name, changes)


def rank(severity):
    return ("error", "warning", "info").index(severity)
