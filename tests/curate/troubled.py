"""Records with every kind of fault, and what is found in them, for tests of problems."""

from curate.project.journal import Decision

SIX = ("extract", "classify", "rewrite", "answer", "summarise", "redirect")
SETTINGS = "[split]\nseed = 1\n" + "".join(f"[categories.{name}]\n" for name in SIX)


def edit(name, **changes):
    return Decision("edit", name, fields={"changes": changes})


def rank(severity):
    return ("error", "warning", "info").index(severity)
