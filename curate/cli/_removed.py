"""What earlier versions had and a script may still type: the verbs and options that went, and what to type instead."""

from __future__ import annotations

VERBS = {
    "merge-driver": (
        "git merges files of records as text, and `curate validate` refuses what it leaves in conflict. In a clone "
        "that was set up for it, type `git config --remove-section merge.curate-records`, and remove the lines with "
        "merge=curate-records from .gitattributes."
    ),
}
OPTIONS = {
    ("dedupe", "--preset"): (
        "for fineweb type --ngram 5 --threshold 0.75. For nemo type --ngram 4 --threshold 0.8, which finds nearly all "
        "that its characters found, and more. For short type nothing."
    ),
    ("redact", "--restore"): (
        "no redacted value is stored, so none can be put back. Take the records from the history of your files."
    ),
}
"""By verb and option."""
