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
    ("redact", "--restore"): "placeholders are not turned back. Keep the original file, or take it from git.",
    ("redact", "--key"): (
        "the key has given way to a table without values, --table FILE. An old key is converted where it lies, as "
        ".curate/redact.key.json."
    ),
    ("redact", "--no-key"): "the key has given way to a table without values; --no-table keeps none.",
}
"""By verb and option."""
