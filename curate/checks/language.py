"""Answers in another language than the record declares."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from functools import cache
from typing import Any

from curate.base.record import Problem, Record
from curate.checks import check, texts, turns
from curate.schema.settings import Settings

_SCRIPTS = {
    "ja": ("HIRAGANA", "KATAKANA", "CJK"),
    "zh": ("CJK",),
    "ko": ("HANGUL",),
    **dict.fromkeys(("ru", "uk", "bg", "be", "mk"), ("CYRILLIC",)),
    **dict.fromkeys(("ar", "fa", "ur"), ("ARABIC",)),
    "he": ("HEBREW",),
    "el": ("GREEK",),
    "th": ("THAI",),
    **dict.fromkeys(("hi", "mr", "ne"), ("DEVANAGARI",)),
    "bn": ("BENGALI",),
    "ta": ("TAMIL",),
    "te": ("TELUGU",),
    "ka": ("GEORGIAN",),
    "hy": ("ARMENIAN",),
    **dict.fromkeys(
        ("en", "de", "fr", "es", "it", "pt", "nl", "sv", "da", "no", "fi", "pl", "cs", "ro", "tr", "vi"), ("LATIN",)
    ),
}
_NAMES = {
    "english": "en", "german": "de", "french": "fr", "spanish": "es", "italian": "it", "portuguese": "pt",
    "dutch": "nl", "japanese": "ja", "chinese": "zh", "korean": "ko", "russian": "ru", "ukrainian": "uk",
    "arabic": "ar", "hebrew": "he", "greek": "el", "thai": "th", "hindi": "hi",
    "eng": "en", "deu": "de", "ger": "de", "fra": "fr", "fre": "fr", "spa": "es", "ita": "it",
    "por": "pt", "nld": "nl", "jpn": "ja", "zho": "zh", "kor": "ko", "rus": "ru",
}  # fmt: skip
# Frequent function words that the other languages of the table do not have.
_FUNCTION_WORDS = {
    "en": "the of and to is that it was for with are this have from they which would there been their",
    "de": "der die und den nicht von mit ist das dem ein eine auch sich auf für wird werden oder sind",
    "fr": "les des est dans pour une qui avec sur pas sont par aux cette plus nous vous mais ou être",
    "es": "el los las una por con para del como más pero sus muy está son también ser fue y puede",
    "it": "il di che della per sono gli con nel una anche più delle alla questo degli dei nella essere ed",
    "pt": "não uma com dos das são mais pelo pela também seu sua ao em os como foi muito ou isso",
    "nl": "het een van niet zijn dat voor met aan ook wordt worden naar bij maar deze uit door om er",
}
_VOTERS: dict[str, list[str]] = {}

_WORD = re.compile(r"[^\W\d_]+")
# ASCII letters in lower case, and all else a blank.
_LETTERS = bytes(code if chr(code).isascii() and chr(code).isalpha() else 32 for code in range(256)).lower()
_CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`|https?://\S+", re.S)
_MIN_LETTERS = 20
_MIN_WORDS = 20
_MIN_DIFFERENT = 5
_FOREIGN_SHARE = 0.8
# Characters that are read of a text; a language shows long before.
_READ = 2000
_SURE = 0.99
# Characters from which on a text is identified.
_MIN_CHARS = 100


for _code, _words in _FUNCTION_WORDS.items():
    for _word in _words.split():
        _VOTERS.setdefault(_word, []).append(_code)


@check(
    "Q207",
    "language-mismatch",
    severity="warning",
    good=[
        {
            "instruction": "こんにちは",
            "output": "こんにちは、元気ですか。今日はとても良い天気ですね。散歩に行きましょう。",
            "meta": {"language": "ja"},
        },
        {"instruction": "Hi", "output": "Ja.", "meta": {"language": "en"}},
        {
            "instruction": "Add.",
            "output": "Two plus two equals four " + "plus one equals five " * 9,
            "meta": {"language": "en"},
        },
        {
            "instruction": "Hi",
            "output": "Das ist nicht der Fall, und die Rechnung wird mit dem Paket verschickt, aber nicht heute.",
        },
    ],
    bad=[
        {
            "instruction": "こんにちは",
            "output": "Hello, how are you today? The weather is nice.",
            "meta": {"language": "ja"},
        },
        {
            "instruction": "Where is it?",
            "output": "Das ist nicht der Fall, und die Rechnung wird mit dem Paket verschickt, aber nicht heute, "
            "sondern erst wenn das Lager wieder offen ist und die Ware auf dem Weg ist.",
            "meta": {"language": "en-GB"},
        },
    ],
)
def language_mismatch(record: Record, settings: Settings) -> Iterator[Problem]:
    """Report an answer that is clearly not in the language that ``meta.language`` declares.

    Mixed languages teach the model to switch in the middle. Correct the answer or the declaration. The script decides,
    and for English, German, French, Spanish, Italian, Portuguese and Dutch a vote of function words. Code, addresses
    and short answers are not judged, nor are records that declare no language.
    """
    declared = _declared(record)
    if declared not in _SCRIPTS:
        return
    for turn in turns(record):
        if other := other_language(turn.completion, declared):
            yield Problem(f"the language is declared {declared!r}, but the completion is {other}", turn.pointer)
    if other := other_language(record.text, declared):
        pointer = next((pointer for pointer, text in texts(record) if text == record.text), "")
        yield Problem(f"the language is declared {declared!r}, but the completion is {other}", pointer)


def other_language(text: str, declared: str) -> str:
    """Return what shows that ``text`` is clearly not in the language of the ISO 639 code ``declared``, "" for nothing.

    Code and addresses are not judged, nor is a language whose script is not known here.
    """
    if declared not in _SCRIPTS:
        return ""
    sample = sample_of(text)
    return _other_script(sample, declared) or _other_language(sample, declared)


def scripts_of(language: str) -> tuple[str, ...]:
    """Return the scripts that a language is written in, by the first words of the Unicode names of their letters."""
    return _SCRIPTS.get(language, ())


def sample_of(text: str) -> str:
    """Return the part of ``text`` that is read for its language: the beginning, without code and addresses."""
    head = text[:_READ]
    return _CODE.sub(" ", head) if "`" in head or "://" in head else head


def _declared(record: Record) -> str:
    value = record.meta.get("language") or record.data.get("language") or ""
    if not value or not isinstance(value, str):
        return ""
    code = re.split(r"[-_ ]", value.strip().lower(), maxsplit=1)[0]
    return _NAMES.get(code, code)


def _other_script(sample: str, declared: str) -> str:
    if sample.isascii() and "LATIN" in _SCRIPTS[declared]:
        return ""
    scripts: Counter[str] = Counter()
    for letter, count in Counter(sample).items():
        if letter.isalpha():
            scripts[unicodedata.name(letter, "?").split(" ", 1)[0]] += count
    scripts.update({"CJK": scripts.pop("IDEOGRAPHIC", 0)})
    total = scripts.total()
    expected = sum(scripts[script] for script in _SCRIPTS[declared])
    if total < _MIN_LETTERS or expected > (1 - _FOREIGN_SHARE) * total:
        return ""
    return f"written in {scripts.most_common(1)[0][0]} letters"


def _other_language(sample: str, declared: str) -> str:
    if declared not in _FUNCTION_WORDS:
        return ""
    words = _words_of(sample)
    votes: Counter[str] = Counter(code for word in words if word in _VOTERS for code in _VOTERS[word])
    if len(words) < _MIN_WORDS or not votes:
        return ""
    winner, count = min(votes.items(), key=lambda item: (-item[1], item[0]))
    # One word may be a loan or a term ("2 plus 2 plus 2", "miles per hour"); several different ones are a language.
    num_different = sum(winner in _VOTERS.get(word, ()) for word in set(words))
    if winner != declared and num_different >= _MIN_DIFFERENT and count * (1 - _FOREIGN_SHARE) > votes[declared]:
        return f"probably {winner!r}"
    return ""


def _words_of(sample: str) -> list[str]:
    if sample.isascii():
        return sample.encode().translate(_LETTERS).decode().split()
    return _WORD.findall(sample.lower())


def identified(text: str) -> str:
    """Return the ISO 639 code of the language that py3langid is 99 % sure of, "" for short texts and doubtful ones."""
    # So sure it was of 80 % of 6,680 texts from 100 characters on, in six languages (MGSM, Dolly), and never wrong.
    # Without the extra the answer is always "".
    sample = identifiable_part(text)
    identifier = _identifier() if sample else None
    if identifier is None:
        return ""
    language, share = identifier.classify(sample)
    return str(language) if share >= _SURE else ""


def identifiable_part(text: str) -> str:
    """Return what `identified` reads of ``text``, without code and addresses; "" where that is too short."""
    sample = sample_of(text).strip() if len(text) >= _MIN_CHARS else ""
    return sample if len(sample) >= _MIN_CHARS else ""


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
