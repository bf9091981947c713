# SPDX-License-Identifier: Apache-2.0
"""Generic skills that the tiny base is pre-trained on: endless, seeded, and disjoint from the support-desk sample.

Every skill is a function from a random generator to a dialogue: an optional system text and turns of (user, assistant).
Most skills ask several questions about one context, because each answer is one more supervised span at no extra cost.
Worlds are zoos, trips, farms and made-up words; no instruction and no sentence pattern of the sample occurs here.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random
from typing import NamedTuple

from words import CITIES, COLOURS, CONTRACTIONS, DAYS, ITEMS, MONTHS, NAMES, PLAIN, TOPICS, listed


class Dialogue(NamedTuple):
    """One pre-training example; with no turns, `system` is plain text that is learned token by token."""

    system: str | None
    turns: list[tuple[str, str]]


Skill = Callable[[Random], Dialogue]
BANK: tuple[str, ...] = tuple(
    dict.fromkeys([*PLAIN, *ITEMS, *COLOURS, *DAYS, *MONTHS, *NAMES, *CITIES, *(w for v in TOPICS.values() for w in v)])
)
OFF_TOPIC: tuple[str, ...] = tuple(w for w in PLAIN if not any(w in words for words in TOPICS.values()))
ONSETS = listed("b c d f g h j k l m n p r s t v w z br cl dr fl gr pl st tr ch sh")
VOWELS = listed("a e i o u ai ea oo")
CODAS = ("", "", "", *listed("n r l t s ck m d"))
SYSTEMS = ("Be brief.", "You reply with care.", "Answer in as few words as you can.", "You are a small model.")


def word(r: Random) -> str:
    """A bank word, or (one in five) a made-up one, so that copying does not depend on knowing the word."""
    if r.random() < 0.8:
        return r.choice(BANK)
    made = "".join(r.choice(ONSETS) + r.choice(VOWELS) for _ in range(r.choice((1, 2, 2)))) + r.choice(CODAS)
    return made.capitalize() if r.random() < 0.3 else made


def distinct(r: Random, count: int, draw: Callable[[Random], str] = word) -> list[str]:
    """`count` different values from `draw`."""
    found: dict[str, None] = {}
    while len(found) < count:
        found[draw(r)] = None
    return list(found)


def number(r: Random) -> str:
    """One to six digits, long codes most often: digits are single tokens and have to be copied one by one."""
    return str(r.randint(1, 10 ** r.choice((1, 2, 3, 4, 5, 5, 5, 6)) - 1))


def value(r: Random) -> str:
    """A number, a word, or two words."""
    kind = r.random()
    if kind < 0.3:
        return number(r)
    return word(r) if kind < 0.75 else f"{r.choice(BANK).lower()} {word(r)}"


TYPES: dict[str, Callable[[Random], str]] = {
    "who": lambda r: r.choice(NAMES),
    "town": lambda r: r.choice(CITIES),
    "thing": lambda r: r.choice(ITEMS) if r.random() < 0.5 else f"{r.choice(PLAIN)} {r.choice(ITEMS)}",
    "colour": lambda r: r.choice(COLOURS),
    "weekday": lambda r: r.choice(DAYS),
    "month": lambda r: r.choice(MONTHS),
    "code": lambda r: str(r.randint(1000, 99999)),
    "count": lambda r: str(r.randint(2, 99)),
}  # fmt: skip
# Slots are filled by type. Zoo, farm, stage and road: nothing about shops, refunds or deliveries.
SCENES: tuple[str, ...] = (
    "{who} rode to {town} with a {thing}.", "In {month}, {who} painted the {thing} {colour}.",
    "The choir of {town} sang on {weekday}.", "Locker {code} hides a {thing}.", "{who} counted {count} ducks.",
    "A {colour} {thing} stood by the barn.", "{who}: ticket {code}, seat {count}.",
    "By {weekday} the {thing} was gone.",
    "Train {code} runs to {town}.", "It rained in {town} all {month}.", "{who} and the goats slept until {weekday}.",
    "My cousin {who} drew a {thing}.", "Near {town} grow {count} trees.", "{who} wore {colour} at the zoo.",
    "Song {code} is by {who}.", "They gave the {thing} to {who}.", "Somebody saw {who} in {town}, {month}.",
    "we fed {count} cows, {who} says", "Room {code} smells of soup.", "hello from {town}, {who} here",
    "A {thing}! said {who}.", "Look for number {code}, the {colour} door.", "{who}'s {thing} fell into the pond.",
    "Nobody in {town} owns a {thing}.", "The {thing} weighs {count} kilos.", "bus {code} left on {weekday}",
)  # fmt: skip
CLOSERS = ("The sun was warm.", "What a day.", "Then it rained.", "The cat slept.", "Nobody knows why.", "so it goes")


def scene(r: Random, count: int) -> tuple[str, dict[str, str]]:
    """`count` random sentences in which every slot type occurs at most once, and the filled slots."""
    slots: dict[str, str] = {}
    parts: list[str] = []
    for pattern in r.sample(SCENES, len(SCENES)):
        names = [n for n in TYPES if "{" + n + "}" in pattern]
        if len(parts) < count and not any(n in slots for n in names):
            slots |= {n: TYPES[n](r) for n in names}
            parts.append(pattern.format(**{n: slots[n] for n in names}))
    if r.random() < 0.4:
        parts.insert(r.randrange(len(parts) + 1), r.choice(CLOSERS))
    return " ".join(parts), slots


def ask(r: Random, head: str, body: str) -> str:
    """Instruction and text in one user message, in the layouts that chat data uses."""
    form = r.random()
    if form < 0.5:
        return f"{head}\n\n{body}"
    if form < 0.8:
        return f"{head}\n{body}"
    return f"{body}\n{head}"


def keyed(r: Random) -> Dialogue:
    """Look values up in a list of keys and values."""
    count = r.randint(2, 6)
    keys, values = distinct(r, count), [value(r) for _ in range(count)]
    sign, gap = r.choice((": ", " = ", " -> ", " is ")), r.choice(("; ", ", ", "\n", ". "))
    listing = gap.join(k + sign + v for k, v in zip(keys, values, strict=True))
    picks = r.sample(range(count), min(count, 4))
    first = ask(r, r.choice(("Look up {}", "{}?", "What stands at {}?")).format(keys[picks[0]]), listing)
    return Dialogue(None, [(first, values[picks[0]])] + [(f"{keys[i]}?", values[i]) for i in picks[1:]])


LINKS = ("lives near", "goes with", "was sent to", "stands behind", "has", "eats", "is", "opens at", "costs", "takes")


def relation(r: Random) -> Dialogue:
    """Look values up in short sentences that share their wording and differ in subject and object."""
    count, noun, link = r.randint(2, 4), r.choice(BANK).lower(), r.choice(LINKS)
    subjects, objects = distinct(r, count), distinct(r, count, value)
    pattern = r.choice(("The {0} {1} {2} {3}.", "{0} {2} {3}.", "For the {0} {1} it {2} {3}.", "{0}: it {2} {3}."))
    text = " ".join(pattern.format(s, noun, link, o) for s, o in zip(subjects, objects, strict=True))
    if r.random() < 0.3:
        text += " " + r.choice(CLOSERS)
    picks = r.sample(range(count), min(count, 3))
    forms = ("and the {0}?", "What about {0}?", "Tell me of the {0} {1}.", "{0}: {2} what?", "Which one {2} for {0}?")
    turns = [(r.choice(forms).format(subjects[i], noun, link), objects[i]) for i in picks]
    turns[0] = (ask(r, turns[0][0], text), turns[0][1])
    return Dialogue(None, turns)


def table(r: Random) -> Dialogue:
    """Look a cell up by its row and its column."""
    count = r.randint(2, 3)
    columns, rows = distinct(r, 2, lambda r: r.choice(BANK).lower()), distinct(r, count)
    cells = [[value(r) for _ in columns] for _ in rows]
    pattern = r.choice(("{0}: {1} {2}, {3} {4}.", "The {0} has {1} {2} and {3} {4}.", "{0} {1} {2} but {3} {4}."))
    text = " ".join(pattern.format(k, columns[0], c[0], columns[1], c[1]) for k, c in zip(rows, cells, strict=True))
    picks = r.sample([(i, j) for i in range(count) for j in range(2)], 3)
    form = r.choice(("{0}, {1}?", "The {1} of {0}?", "What {1} has {0}?"))
    turns = [(form.format(rows[i], columns[j]), cells[i][j]) for i, j in picks]
    return Dialogue(None, [(ask(r, turns[0][0], text), turns[0][1]), *turns[1:]])


def inverse(r: Random) -> Dialogue:
    """Given the object of a sentence, name its subject."""
    count, link = r.randint(2, 4), r.choice(LINKS)
    subjects, objects = distinct(r, count), distinct(r, count, value)
    text = " ".join(f"{s} {link} {o}." for s, o in zip(subjects, objects, strict=True))
    picks = r.sample(range(count), 2)
    turns = [(f"Who or what {link} {objects[i]}?", subjects[i]) for i in picks]
    return Dialogue(None, [(ask(r, turns[0][0], text), turns[0][1]), turns[1]])


def typed(r: Random) -> Dialogue:
    """Pull a colour, a town, a code ... out of a scene, one at a time."""
    text, slots = scene(r, r.randint(2, 4))
    names = r.sample(list(slots), min(len(slots), 3))
    turns = [(r.choice(("Name the {}.", "the {}?", "Show me its {}")).format(n), slots[n]) for n in names]
    return Dialogue(None, [(ask(r, turns[0][0], text), turns[0][1]), *turns[1:]])


def typed_json(r: Random) -> Dialogue:
    """Pull several typed values out of a scene as a JSON object with the named members, in the named order."""
    text, slots = scene(r, r.randint(2, 4))
    names = r.sample(list(slots), r.randint(1, min(len(slots), 3)))
    head = r.choice(("JSON of {}", "Make a dict: {}", "members: {} (json)")).format(", ".join(names))
    turns = [(ask(r, head, text), json.dumps({n: slots[n] for n in names}))]
    rest = [n for n in slots if n not in names]
    if rest:
        turns.append((f"members: {rest[0]}", json.dumps({rest[0]: slots[rest[0]]})))
    return Dialogue(None, turns)


def listing_json(r: Random) -> Dialogue:
    """Turn a list of keys and values into a JSON object."""
    keys = [k.lower() for k in distinct(r, r.randint(1, 3))]
    members = {k: value(r) for k in keys}
    sign, gap = r.choice((": ", "=", " - ")), r.choice((", ", "; ", "\n"))
    return Dialogue(
        None, [(ask(r, "as an object", gap.join(k + sign + v for k, v in members.items())), json.dumps(members))]
    )


def topic(r: Random) -> Dialogue:
    """Name the topic of a line of words; the options are sometimes listed."""
    names = r.sample(list(TOPICS), r.randint(3, 5))
    turns: list[tuple[str, str]] = []
    for name in names[:3]:
        words = [r.choice(OFF_TOPIC) for _ in range(r.randint(2, 7))] + r.sample(TOPICS[name], r.choice((1, 1, 2)))
        r.shuffle(words)
        turns.append((" ".join(words), name))
    head = r.choice(("What is this about?", "Topic", "One of " + " / ".join(sorted(names))))
    return Dialogue(None, [(ask(r, head, turns[0][0]), turns[0][1]), *turns[1:]])


def tidy(r: Random) -> Dialogue:
    """Spell out contractions and slang, start with a capital, end with a full stop, drop a filler."""
    turns: list[tuple[str, str]] = []
    for _ in range(2):
        words = [r.choice(PLAIN) for _ in range(r.randint(3, 7))]
        pairs = [(w, w) for w in words]
        for old, new in r.sample(CONTRACTIONS, r.choice((1, 2, 2))):
            pairs.insert(r.randrange(len(pairs) + 1), (old, new))
        if r.random() < 0.5:
            pairs.insert(0, ("i", "I"))
        loose, neat = " ".join(p[0] for p in pairs), " ".join(p[1] for p in pairs)
        if r.random() < 0.4:
            loose = r.choice(("um, ", "oh ", "yo, ")) + loose
        turns.append((loose + r.choice(("", "", "!!", "...")), neat[0].upper() + neat[1:] + "."))
    return Dialogue(
        None, [(ask(r, r.choice(("Tidy this up", "Spell it out", "neat, please")), turns[0][0]), turns[0][1]), turns[1]]
    )


def copying(r: Random) -> Dialogue:
    """Repeat a line, its first or last part, or the part after a cue word."""
    parts = distinct(r, r.randint(3, 8), value)
    line, cue = " ".join(parts), r.randrange(len(parts) - 1)
    tasks = [
        ("Say it again", line),
        ("Its end?", parts[-1]),
        ("Its start?", parts[0]),
        (f"What follows {parts[cue]}?", parts[cue + 1]),
    ]
    r.shuffle(tasks)
    return Dialogue(None, [(ask(r, tasks[0][0], line), tasks[0][1]), *tasks[1:3]])


def pick_line(r: Random) -> Dialogue:
    """Find the sentence that mentions a word."""
    lines = [" ".join(distinct(r, r.randint(3, 5))) + "." for _ in range(r.randint(2, 4))]
    chosen = r.choice(lines)
    cue = r.choice(chosen[:-1].split())
    if sum(cue in line for line in lines) > 1:
        return pick_line(r)
    return Dialogue(None, [(ask(r, f"The line with {cue}", " ".join(lines)), chosen)])


FRAMES = (
    "{a} sings for {b} near the {c}.", "Good morning {a}, the {b} is beside the {c}.", "{a} grew a {c} for {b}.",
    "Dear {a}, your {c} sleeps in {b}.", "No {b} today, {a}: the {c} is full.", "Ask {a} how the {c} and {b} met.",
)  # fmt: skip


def fill(r: Random) -> Dialogue:
    """Fill the gaps of a given sentence."""
    turns: list[tuple[str, str]] = []
    for _ in range(2):
        frame, slots = r.choice(FRAMES), {k: value(r) for k in "abc"}
        listing = r.choice((", ", "; ")).join(f"{k}={slots[k]}" for k in r.sample("abc", 3))
        turns.append((f"{frame}\n{listing}", frame.format(**slots)))
    return Dialogue(None, [(f"Put these in\n{turns[0][0]}", turns[0][1]), turns[1]])


WISHES: dict[str, tuple[str, str]] = {
    "see": ("{who} keeps dreaming of the {thing}.", "{who} hopes to see the {thing}"),
    "sell": ("The {thing} is for sale, says {who}.", "{who} sells the {thing}"),
    "lose": ("{who} cannot find the {thing} anywhere.", "{who} lost the {thing}"),
    "build": ("Wood, nails, and {who} at work: a {thing} grows.", "{who} builds the {thing}"),
    "move": ("{who} took the {thing} on a cart.", "{who} moved the {thing}"),
    "clean": ("Soap, water, {who} and one {thing}.", "{who} washed the {thing}"),
}
PLACES = (
    ("The road led to {town}.", "in {town}"),
    ("{weekday} came.", "on {weekday}"),
    ("It was {month}.", "in {month}"),
)


def gist(r: Random) -> Dialogue:
    """Say in one fixed wording who did what, where or when, from a short story."""
    turns: list[tuple[str, str]] = []
    for _ in range(2):
        slots = {n: TYPES[n](r) for n in ("who", "thing", "town", "weekday", "month")}
        (story, short), (where, tail) = r.choice(list(WISHES.values())), r.choice(PLACES)
        parts = [story.format(**slots), where.format(**slots), r.choice(CLOSERS)]
        r.shuffle(parts)
        turns.append((" ".join(parts), f"{short} {tail}.".format(**slots)))
    return Dialogue(
        None, [(ask(r, r.choice(("The gist?", "In one line", "So who did what?")), turns[0][0]), turns[0][1]), turns[1]]
    )


def courtesy(r: Random) -> Dialogue:
    """Greet, thank or excuse somebody whose name is in the message."""
    who, thing = r.choice(NAMES), r.choice(ITEMS)
    opening = r.choice(
        (
            f"{who} here, I sang for the {thing}.",
            f"I am {who}. Look at my {thing}.",
            f"the {thing} is mine, yours, {who}",
        )
    )
    request, reply = r.choice((
        ("Greet the writer", f"Good day, {who}. What a fine {thing}."), ("Thank the writer",
            f"Many thanks, {who}, and to your {thing}."),
        ("Say goodbye", f"Farewell, {who}. May the {thing} last."), ("Say we are shut",
            f"We are shut today, {who}; bring the {thing} later."),
    ))  # fmt: skip
    return Dialogue(None, [(ask(r, request, opening), reply)])


def plain(r: Random) -> Dialogue:
    """Plain text: scenes and sentences of relations, learned token by token."""
    text, _ = scene(r, r.randint(2, 4))
    subjects, link = distinct(r, 2), r.choice(LINKS)
    extra = " ".join(f"{s} {link} {value(r)}." for s in subjects)
    return Dialogue(f"{text} {extra}" if r.random() < 0.5 else text, [])


SKILLS: dict[str, tuple[Skill, int]] = {
    "keyed": (keyed, 4), "relation": (relation, 5), "table": (table, 3), "inverse": (inverse, 1), "typed": (typed, 3),
    "typed_json": (typed_json, 4), "listing_json": (listing_json, 2), "topic": (topic, 2), "tidy": (tidy, 3),
    "copying": (copying, 2), "pick_line": (pick_line, 1), "fill": (fill, 2), "gist": (gist, 3),
    "courtesy": (courtesy, 1), "plain": (plain, 2),
}  # fmt: skip
_DECK = [name for name, (_, weight) in SKILLS.items() for _ in range(weight)]


def draw(r: Random) -> tuple[str, Dialogue]:
    """One example of a random skill (by weight), one in ten with a system text."""
    name = r.choice(_DECK)
    example = SKILLS[name][0](r)
    if example.turns and r.random() < 0.1:
        example = Dialogue(r.choice(SYSTEMS), example.turns)
    return name, example
