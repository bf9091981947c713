"""Which language a text is in, told only where a statistical classifier is sure of it; needs the extra [lang]."""

from __future__ import annotations

from functools import cache
from typing import Any

from curate.checks.language import sample_of

_SURE = 0.99
_FROM_CHARS = 100


def identified(text: str) -> str:
    """Return the ISO 639 code of the language that py3langid is 99 % sure of, "" for short texts and doubtful ones.

    So sure it was of 80 % of 6,680 texts from 100 characters on, in six languages (MGSM, Dolly), and never wrong. Code
    and addresses are not read. Without the extra the answer is always "".
    """
    sample = sample_of(text).strip()
    identifier = _identifier() if len(sample) >= _FROM_CHARS else None
    if identifier is None:
        return ""
    language, share = identifier.classify(sample)
    return str(language) if share >= _SURE else ""


def is_identifiable(language: str) -> bool:
    """Whether the classifier knows a language at all."""
    identifier = _identifier()
    return identifier is not None and language in identifier.labels


@cache
def _identifier() -> Any:
    """Return py3langid's identifier, None where the extra is not installed."""
    # numpy and a model of several megabytes, for data sets that say which language they are in.
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError:
        return None
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
