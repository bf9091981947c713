"""What an examiner need not do for most lines, good or bad; what it reports and counts is the same without any of it.

Most records show no sign of anything. One search by the schema engine for the signs of all checks finds that out in a
few microseconds, where the checks themselves would take a hundred (`Prefilter`).

A broken export repeats one fault a million times, in other words each time. All but the first of such lines need only
be counted (`Skeletons`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from typing import TYPE_CHECKING, NamedTuple

import jsonschema_rs

from curate.base.record import Json, strings_of
from curate.checks import Check
from curate.schema import Shape
from curate.schema.settings import Settings

if TYPE_CHECKING:
    from curate.similarity.dedupe.blocks import Flags, RecordBlock

# Says whether none of some signs is found in any text of a value, however deep it lies.
Absence = Callable[[Json], bool]

# Lines after which the time to build the search is won back.
_PAYS_FROM = 256
# The engine builds its automaton while it searches; with too little room it would build parts of it again and again.
_AUTOMATON_BYTES = 20_000_000
_PATTERN_BYTES = 20_000_000

_WHITE = "\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_ANY = "[\x00-\U0010ffff]"
# What Python takes for an i when case is ignored, and the engine does not.
_OTHER_I = "[\u0130\u0131]"
_PART = re.compile(r"\[\^?\]?(?:\\.|[^\]\\])*\]|\{(\d+),\d+\}|\(\?<?[=!]|\\.|.", re.DOTALL)
_ITEM = re.compile(r"\\.|.", re.DOTALL)
# What an escape stands for: outside a class, in one, and in a negated one. Letters beyond ASCII can be meant too, which
# may make a class larger, but must not make a negated one smaller.
_ESCAPES = {
    r"\d": (r"\p{Nd}", r"\p{Nd}", "0-9"),
    r"\w": ("[0-9A-Za-z_\x80-\U0010ffff]", "0-9A-Za-z_\x80-\U0010ffff", "0-9A-Za-z_"),
    r"\s": (f"[{_WHITE}]", _WHITE, _WHITE),
    r"\S": (f"[^{_WHITE}]", "", ""),
    r"\W": (_ANY, "", ""),
    r"\b": ("", "", ""),
    r"\A": ("^", "", ""),
    r"\Z": ("$", "", ""),
    **{escape: (escape, escape, escape) for escape in (r"\n", r"\t", r"\r", r"\x", r"\u")},
}


# A check with signs reports nothing where none of them is found, so that leaving it out changes no result; tests hold
# every check to that.


class Prefilter:
    """Chooses from ``checks`` those that have to look at a line; the order stays.

    What ``settings`` silence is never chosen. The search is built when enough lines have passed to pay for it.
    """

    def __init__(self, checks: Sequence[Check], settings: Settings) -> None:
        self._settings = settings
        self._checks = [check for check in checks if check.speaks_if is None or check.speaks_if(settings)]
        self._unsigned = [check for check in self._checks if not check.signs]
        self._num_unsifted = _PAYS_FROM if len(self._unsigned) < len(self._checks) else -1
        self._absences: dict[str, Absence] = {}

    @cached_property
    def _is_quiet(self) -> Absence:
        """Says whether a line has no sign of any check."""
        return absence_of([sign for check in self._checks for sign in check.signs])

    @property
    def num_checks(self) -> int:
        """How many checks may have to look at a line."""
        return len(self._checks)

    def checks(self, value: Json) -> list[Check]:
        """Return the checks that can have something to report of the line ``value``."""
        if self._num_unsifted:
            self._num_unsifted -= 1
            return self._checks
        if self._is_quiet(value):
            return self._unsigned
        return [check for check in self._checks if not check.signs or not self._is_absent(check, value)]

    def flags(self, block: RecordBlock) -> tuple[Flags, dict[str, Flags]]:
        """Return which records of a block, [N], some check can have something to report of, and which each check.

        A check that is not among the latter can have something to report of any of the former.
        """
        all_flags, by_code = ~block.is_plain, {}
        for check in self._unsigned:
            if check.condition is None:
                all_flags |= True
            else:
                by_code[check.code] = check.condition(block, self._settings) | ~block.is_plain
                all_flags |= by_code[check.code]
        if len(self._unsigned) < len(self._checks):
            all_flags |= ~block.where(map(self._is_quiet, block.values))
        return all_flags, by_code

    @cached_property
    def digest(self) -> str:
        """A digest of all that `flags` depends on beside the records; "" where the code of a plug-in has a say."""
        if any(check.condition and not check.condition.__module__.startswith("curate.") for check in self._checks):
            return ""
        signs = [(check.code, [(sign.pattern, sign.flags) for sign in check.signs]) for check in self._checks]
        about = repr((signs, self._settings.checks, self._settings.categories))
        return blake2b(about.encode(), digest_size=8).hexdigest()

    def _is_absent(self, check: Check, value: Json) -> bool:
        if check.code not in self._absences:
            self._absences[check.code] = absence_of(check.signs)
        return self._absences[check.code](value)


def absence_of(signs: Sequence[re.Pattern[str]]) -> Absence:
    """Return the function that says whether none of ``signs`` is found in any text of a value; it may say no too often.

    Raises:
        ValueError: a sign has a part that cannot be loosened.
    """
    sign = "|".join(f"(?:{part})" for part in dict.fromkeys(map(loosened, signs)))
    inner = {"$ref": "#/$defs/inner"}
    text = {"type": "string", "pattern": sign}
    options = jsonschema_rs.RegexOptions(size_limit=_PATTERN_BYTES, dfa_size_limit=_AUTOMATON_BYTES)
    is_absent: Absence = jsonschema_rs.Draft202012Validator(
        {**inner, "$defs": {"inner": {"not": text, "items": inner, "additionalProperties": inner}}},
        pattern_options=options,
    ).is_valid
    return is_absent


def loosened(pattern: re.Pattern[str]) -> str:
    """Return ``pattern`` in the syntax of the engine, so that it matches every text that it matched, and possibly more.

    Look-around and edges of words are left out, and repeats have no upper bound.

    Raises:
        ValueError: the pattern has a part that cannot be loosened, such as a back-reference.
    """
    sign = "".join(_parts(pattern.pattern, is_dot_any=bool(pattern.flags & re.DOTALL)))
    return f"(?i:{sign})|{_OTHER_I}" if pattern.flags & re.IGNORECASE else sign


def _parts(source: str, *, is_dot_any: bool) -> Iterator[str]:
    offset = 0
    while part := _PART.match(source, offset):
        text, offset = part.group(), part.end()
        if text.startswith("(?"):
            offset = _end_of_group(source, offset)
        elif text == ".":
            yield _ANY if is_dot_any else "[^\n]"
        elif text.startswith("["):
            yield _class(text)
        elif part.group(1):
            yield f"{{{part.group(1)},}}"
        elif text.startswith("\\"):
            yield _item(text, 0)
        elif text in "^$":
            raise ValueError(f"{source!r} has a {text}, which depends on flags: write \\A or \\Z")
        else:
            yield text


def _class(text: str) -> str:
    mark = "^" if text.startswith("[^") else ""
    items = (_item(item, 2 if mark else 1) for item in _ITEM.findall(text[1:-1].removeprefix("^")))
    return f"[{mark}{''.join(items)}]"


def _item(text: str, context: int) -> str:
    if len(text) == 1:
        # The engine has set operations within classes, and Python has not.
        return f"\\{text}" if text in "[&~" else text
    if text in _ESCAPES:
        text = _ESCAPES[text][context]
        if text or not context:
            return text
    elif not text[1].isalnum():
        return text
    raise ValueError(f"{text} cannot be loosened here")


def _end_of_group(source: str, offset: int) -> int:
    """Return where the group ends that is open at ``offset``."""
    depth = 1
    while depth and (part := _PART.match(source, offset)):
        offset = part.end()
        depth += part.group().startswith("(") - (part.group() == ")")
    return offset


# Keywords that may look at anything in a value.
_ANYTHING = frozenset({"pattern", "format", "contentEncoding", "contentMediaType", "contentSchema", "multipleOf"})
_BOUNDS = frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"})
_MOST_TEXTS = 200


@dataclass(frozen=True, slots=True)
class _Contents:
    """Texts of ``shortest`` to ``longest`` characters that are none of ``texts`` are alike to a schema.

    So are whole numbers beyond ``largest``, which is not negative. At the keys ``unique`` it compares whole values.
    """

    shortest: int
    longest: int
    texts: frozenset[str]
    largest: int
    unique: frozenset[str]


def _contents_of(shape: Shape) -> _Contents | None:
    """Return what a schema tells apart in texts and numbers, None where it may look at anything in them."""
    # The view of a schema of one's own asks more of a line than the schema does.
    if shape.is_own and shape.view:
        return None
    # Every object in the documents is taken for a schema, also where it is none: that errs on the safe side.
    shortest, longest, largest, texts, unique = 0, 1 << 30, 0, set[str](), set[str]()
    # With each node the key of the value that it is about, where it hangs on one.
    waiting: list[tuple[Json, str]] = [(document, "") for document in shape.schema_set.documents.values()]
    while waiting:
        node, key = waiting.pop()
        if isinstance(node, list):
            waiting += [(part, "") for part in node]
        if not isinstance(node, dict):
            continue
        # A reference to a property lets it hang on other keys as well.
        if not _ANYTHING.isdisjoint(node) or "/properties/" in str(node.get("$ref", "")):
            return None
        if node.get("uniqueItems"):
            if not key:
                return None
            unique.add(key)
        for name, part in node.items():
            if name == "properties" and isinstance(part, dict):
                waiting += [(inner, at) for at, inner in part.items()]
            else:
                waiting.append((part, ""))
        named = [node[keyword] for keyword in ("const", "enum") if keyword in node]
        texts.update(strings_of(named))
        least, most = node.get("minLength", 0), node.get("maxLength", longest)
        # A length of 1.0 is one too, and a property of that name has a schema.
        if type(least) is not int or type(most) is not int:
            return None
        shortest, longest = max(shortest, least), min(longest, most)
        bounds = [number for keyword in _BOUNDS & node.keys() for number in _numbers(node[keyword])]
        largest = max([largest, *bounds, *_numbers(named)])
    if len(texts) > _MOST_TEXTS:
        return None
    return _Contents(shortest, longest, frozenset(texts), largest, frozenset(unique))


def _numbers(value: Json) -> list[int]:
    """Return the absolute values of all numbers in ``value``, rounded up."""
    numbers, waiting = [], [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            waiting += item.values()
        elif isinstance(item, list):
            waiting += item
        elif isinstance(item, int | float) and not isinstance(item, bool):
            numbers.append(int(abs(item)) + 1)
    return numbers


# Bytes of a line that is worth a skeleton.
LONGEST = 1024
# Digits of a number that fits in 64 bits, whichever they are.
_FITTING = 18
# With no more of them, no line is nested too deep to be parsed.
_MOST_BRACKETS = 64
_TEXT = rb'[^"\\\x00-\x1f]'
_ASCII = rb'[^"\\\x00-\x1f\x80-\xff]'
_QUOTED = rb'"(?:[^"\\]++|\\.)*+"'
_CUT = rb'"(?=%b*+\Z)' % _TEXT
# Stands for what was taken out; no line that has a skeleton has it.
_REMOVED = b"\x01"
# Each match is what stays, in a group, and then what is taken out or the end. Texts of a list without objects are no
# keys.
_IN_LIST = re.compile(
    rb'((?:[^"]++|(?!"%b*+(?:"|\Z))(?:%b|"))*+(?:%b)?+)(?:"%b*+"|%b*+\Z)' % (_TEXT, _QUOTED, _CUT, _TEXT, _TEXT),
    re.DOTALL,
)
_LETTERS = re.compile(rb"[A-Za-z]++.?", re.DOTALL)
_VALUES = (b"true", b"false", b"null")
# The rest of a line that cannot be nested too deep.
_REST = rb"[^\[{\x00\x01]*+"
_NOT_UTF8 = "not UTF-8"
# A lead byte without what must follow it, as every accent in Latin-1 is before a letter of ASCII.
_NO_UTF8 = rb"[{A-Za-z][^\[{\x00\x01\x80-\xff]*+[\xc0-\xff][^\[{\x00\x01\x80-\xff]" + _REST
# Each takes as long to compile as a hundred lines to look at.
_MAX_TEMPLATES = 64


class Template(NamedTuple):
    """Tells lines of one skeleton, though not all of them, several times as fast as making their skeletons.

    ``is_match`` is to be asked of lines of at most `LONGEST` bytes, and of those in ASCII or of others as ``is_ascii``
    says.
    """

    is_match: Callable[[bytes], object]
    is_ascii: bool


# The skeleton of a line is what is left when each text that is a value, and each large whole number, stands for all
# others that parser and schema take alike. Keys, brackets, and every text with an escape stay as they are. A line whose
# skeleton was seen before has the faults that were found then; whatever is not sure to be so has no skeleton.


class Skeletons:
    """Gives lines their skeletons, for one schema."""

    def __init__(self, shape: Shape) -> None:
        contents = _contents_of(shape)
        shortest, longest, digits, named = 0, LONGEST, 4, b""
        if contents:
            shortest, longest = contents.shortest, min(contents.longest, LONGEST)
            digits = max(digits, len(str(contents.largest)))
            named = b"|".join(re.escape(text.encode("utf-8", "surrogatepass")) for text in sorted(contents.texts))
        others = b'(?!(?:%b)")' % named if named else b""
        least, most = shortest, max(shortest, longest)
        # A character has at most four bytes.
        text = b'"%b(?:%b{%d,%d}+|%b{%d,%d}+)"' % (
            others, _ASCII, least, most, _TEXT, 4 * least, max(4 * least, most),
        )  # fmt: skip
        number = rb"[0-9]{%d,%d}+(?=[ \t]*+[,}])" % (digits, max(digits, _FITTING - 1))
        # What follows the colon of a value that goes: nothing, the first digit, or the quote of a text that is cut off.
        begun = rb"[ \t]*+(?:(?=%b)|[1-9](?=%b)|%b)" % (text, number, _CUT)
        unchanged = rb'(?:[^":]++|%b|:(?!%b)|")*+(?::%b)?+' % (_QUOTED, begun, begun)
        self._values = re.compile(rb"(%b)(?:%b|%b|%b*+\Z)" % (unchanged, text, number, _TEXT), re.DOTALL)
        self._text, self._number = text, number
        self._templates: dict[bytes | str, Template | None] = {}
        self._is_of_schema = contents is not None and 4 * shortest <= longest and digits < _FITTING
        self._unique = [key.encode("utf-8", "surrogatepass") for key in contents.unique] if contents else []

    def is_of_schema(self, raw: bytes) -> bool:
        """Whether lines of the skeleton of ``raw`` are alike to the schema too, and not to the parser alone."""
        # A key can be spelled with escapes.
        are_plain = not self._unique or not any(key in raw for key in (*self._unique, b"\\"))
        return self._is_of_schema and are_plain

    def of(self, raw: bytes) -> bytes | str | None:
        """Return the skeleton of a line without its newline: itself where nothing can be taken out.

        Where the beginning decides, it is a text that names the fault. None where a line could be taken for a skeleton.
        """
        if len(raw) > LONGEST or b"\x01" in raw or b"\x00" in raw:
            return None
        start = raw[:1]
        is_word = start.isalpha()
        if not raw.isascii() and (fault := _utf8_fault(raw)):
            # Other lines can be something else before their bytes are looked at.
            return fault if (start in b"{[" or is_word) and _is_shallow(raw) else None
        if start == b"{":
            if raw[1:2] not in b'"} \t\r' and _is_shallow(raw):
                return "no key"
            return _REMOVED.join(self._values.findall(raw))
        if start == b"[":
            return _REMOVED.join((self._values if b"{" in raw else _IN_LIST).findall(raw))
        if is_word and _is_shallow(raw):
            return _word(raw)
        if raw.isdigit() and start != b"0" and len(raw) <= _FITTING:
            return "a number"
        return raw

    def template(self, raw: bytes, skeleton: bytes | str) -> Template | None:
        """Return a template of the skeleton of ``raw``, None where there is none."""
        if skeleton not in self._templates:
            if len(self._templates) >= _MAX_TEMPLATES:
                return None
            is_ascii = raw.isascii()
            pattern = (
                b"".join(self._template(raw, skeleton)) if is_ascii else _NO_UTF8 if skeleton == _NOT_UTF8 else b""
            )
            self._templates[skeleton] = (
                Template(re.compile(pattern, re.DOTALL).fullmatch, is_ascii) if pattern else None
            )
        return self._templates[skeleton]

    def _template(self, raw: bytes, skeleton: bytes | str) -> Iterator[bytes]:
        """Yield the parts of a pattern: what stays as it is, and in each place what can stand where something went."""
        if skeleton == "no key":
            yield rb'\{[^"} \t\r\[{\x00\x01]' + _REST
        elif skeleton == "a number":
            yield rb"[1-9][0-9]{0,%d}" % (_FITTING - 1)
        elif isinstance(skeleton, str):
            letters = _LETTERS.match(raw)
            begin = letters[0] if letters and raw[0] in b"tfnNIi" else raw[:1]
            # A word that ends the line could go on in another one.
            if skeleton.startswith("no JSON") and not (len(begin) > 1 and begin.isalpha()):
                yield re.escape(begin) + _REST
        elif skeleton != raw:
            is_list = raw[:1] == b"[" and b"{" not in raw
            for match in (_IN_LIST if is_list else self._values).finditer(raw):
                removed = raw[match.end(1) : match.end()]
                yield re.escape(match[1])
                if removed[:1] == b'"' and match.end() > match.end(1) + 1 and removed.endswith(b'"'):
                    yield rb'"%b*+"' % _TEXT if is_list else self._text
                elif removed.isdigit() and match.end() < len(raw):
                    yield self._number
                elif removed:
                    yield _TEXT + b"*+"


def _utf8_fault(raw: bytes) -> str:
    """Return what is wrong with the bytes of a line as UTF-8, "" where nothing is."""
    try:
        raw.decode()
    except UnicodeDecodeError as error:
        return "cut" if error.reason == "unexpected end of data" else _NOT_UTF8
    return ""


def _word(raw: bytes) -> bytes | str:
    """Return the skeleton of a line that begins with a letter: as a rule that is its fault already."""
    if raw[0] not in b"tfnNIi":
        return "no JSON"
    letters = _LETTERS.match(raw)
    assert letters is not None
    return raw if letters[0].startswith(_VALUES) else f"no JSON: {letters[0].decode('latin-1')}"


def _is_shallow(raw: bytes) -> bool:
    return raw.count(b"[") + raw.count(b"{") <= _MOST_BRACKETS
