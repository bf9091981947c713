# SPDX-License-Identifier: Apache-2.0
"""Write `support_desk.jsonl`: a support desk's pairs in six categories, from a seed, with the standard library only.

    python samples/make_support_desk.py [FOLDER]

Every answer follows from its prompt by a rule, so exact match is a fair score. A candidate that nearly repeats an
earlier record (word-3-gram Jaccard on prompt, completion or whole record) is thrown away before it gets an id.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import NamedTuple

from near_repeats import Seen, shingles
from words import CITIES, COLOURS, CONTRACTIONS, DAYS, ITEMS, MONTHS, NAMES

SEED = 7
PER_CATEGORY = 190
MAX_SIMILARITY = 0.6


class Pair(NamedTuple):
    """One instruction pair before it gets its id and category."""

    instruction: str
    input: str
    output: str


def item(r: Random) -> str:
    """A product, half of the time with a colour or a kind."""
    kind = r.random()
    if kind < 0.5:
        return r.choice(PRODUCTS)
    return f"{r.choice(COLOURS if kind < 0.75 else KINDS)} {r.choice(PRODUCTS)}"


PRODUCTS = tuple(i for i in ITEMS if i != "sandals")  # one plural would break the grammar of every sentence
KINDS = ("big", "small", "new", "old", "garden", "kitchen", "office", "travel", "wood", "steel", "leather", "winter")

# extract -------------------------------------------------------------------------------------------------------------
EXTRACT_ORDERS = (
    "Extract {keys} from the message as JSON.", "Return a JSON object with the keys {keys}.",
    "Which values does the customer give for {keys}? Reply in JSON.", "Fill this form as JSON: {keys}.",
    "Read the ticket and output {keys} as JSON.",
)  # fmt: skip
EXTRACT_OPENINGS = (
    "Hello, this is {name}.", "{name} writing.", "My name is {name}.",
    "Good morning, {name} from your shop's newsletter here.",
    "Hi team, {name} again.", "Customer: {name}.", "You spoke to me, {name}, last week.",
    "I am {name}, a regular customer.",
)  # fmt: skip
EXTRACT_ORDERED = (
    "I ordered the {item} under number {order}.", "Order {order} was for one {item}.",
    "The {item} from order {order} is not right.",
    "Please look at order {order}, the {item}.", "About the {item}: the order number is {order}.",
    "On the receipt it says {order} and {item}.", "My {item} is faulty (order {order}).",
    "Reference {order}. The product: {item}.", "One {item} came, and {order} is printed on the box.",
    "Can you find {order}? It should hold the {item}.",
)  # fmt: skip
EXTRACT_PLACED = (
    "It should go to {city} by {day}.", "The driver left it in {city} on {day}.", "I was at home in {city} all {day}.",
    "Since {day} it has been stuck in {city}.", "On {day} your {city} branch told me to write.",
    "{day} is fine for a pickup in {city}.", "I paid in {city}, and it came on {day}.",
    "Your {city} depot closed early on {day}.",
)  # fmt: skip
EXTRACT_CLOSINGS = (
    "", "", "Please help.", "Thanks in advance.", "What should I do now?", "I will wait for your call.",
    "Kind regards.",
    "This is the second time.", "The box looked fine.", "Nobody answers the phone.",
)  # fmt: skip
EXTRACT_KEYS = ("order", "item", "name", "day", "city")


def extract(r: Random) -> Pair:
    """Named fields of a ticket as a JSON object, in the order in which the instruction names them."""
    fields = {
        "order": str(r.randint(10000, 99999)), "item": item(r), "name": r.choice(NAMES), "day": r.choice(DAYS),
        "city": r.choice(CITIES),
    }  # fmt: skip
    parts = [r.choice(EXTRACT_OPENINGS), r.choice(EXTRACT_ORDERED), r.choice(EXTRACT_PLACED)]
    r.shuffle(parts)
    text = " ".join([*parts, r.choice(EXTRACT_CLOSINGS)]).strip().format(**fields)
    keys = r.sample(EXTRACT_KEYS, r.choice((2, 2, 3)))
    listed = ", ".join(keys[:-1]) + " and " + keys[-1]
    return Pair(r.choice(EXTRACT_ORDERS).format(keys=listed), text, json.dumps({k: fields[k] for k in keys}))


# classify ------------------------------------------------------------------------------------------------------------
CLASSIFY_ORDERS = (
    "Route the ticket to billing, delivery, account, device or returns.",
    "Which queue takes this ticket: billing, delivery, account, device or returns?",
    "Label the message with one queue (billing, delivery, account, device, returns).",
    "Choose the team for this message. Teams: account, billing, delivery, device, returns.",
)
SYMPTOMS: dict[str, tuple[str, ...]] = {
    "billing": (
        "I was charged twice for the {item}.", "The invoice for {month} shows the wrong price.",
        "My card was refused at the checkout.",
        "The discount code did not lower the price.", "I need a receipt for the {item}.",
        "You took {number} euros too much.",
        "The payment for the {item} is still open.", "Why is there an extra fee of {number} euros?",
        "My voucher was not counted.",
        "Can I pay for the {item} in parts?",
    ),
    "delivery": (
        "The courier never came on {day}.", "The parcel with the {item} is stuck in {city}.",
        "Tracking has not changed since {day}.",
        "The driver left the box at the wrong door.", "When will the {item} arrive?",
        "Can you ship it to {city} instead?",
        "My package was given to a neighbour.", "The depot in {city} says it is lost.",
        "The truck drove past my house on {day}.",
        "It is {number} days late.",
    ),
    "account": (
        "I forgot my password.", "I cannot log in since {day}.", "Please change my email address.",
        "My profile shows the wrong name.",
        "The login code never reaches my phone.", "I want to close my profile in {month}.",
        "Somebody else uses my login.",
        "My user name is locked after {number} tries.", "How do I switch off the newsletter?",
        "I moved to {city}; update my details.",
    ),
    "device": (
        "The {item} will not turn on.", "There is a loud noise in the {item}.", "The screen stays black.",
        "The battery is empty after {number} minutes.",
        "It shows error {number}.", "The update stopped on {day}.", "The button of the {item} is loose.",
        "It gets hot and smells.",
        "The {item} does not pair with my phone.", "How do I reset the {item}?",
    ),
    "returns": (
        "I want to send the {item} back.", "The {item} is too small for me.", "Where is the return label?",
        "I do not like the colour.",
        "Can I swap the {item} for a bigger one?", "I bought the wrong {item}.",
        "The {item} was a gift that nobody needs.",
        "Is {number} days too late to bring it back?", "Your {city} branch would not take it back.",
        "I changed my mind on {day}.",
    ),
}  # fmt: skip
FRAMES = (
    "Hello.", "Hi,", "Good day.", "This is {name}.", "{name} here.", "Please help.", "Thanks, {name}",
    "Regards, {name}", "It is urgent.", "I asked on {day}.",
)  # fmt: skip


def classify(r: Random) -> Pair:
    """The one queue that both symptoms of a ticket belong to."""
    label = r.choice(list(SYMPTOMS))
    parts = [r.choice(FRAMES[:5]), *r.sample(SYMPTOMS[label], 2), r.choice(FRAMES[5:])]
    slots = {
        "item": item(r), "city": r.choice(CITIES), "day": r.choice(DAYS), "month": r.choice(MONTHS),
        "name": r.choice(NAMES),
        "number": r.randint(3, 90),
    }  # fmt: skip
    return Pair(r.choice(CLASSIFY_ORDERS), " ".join(parts).format(**slots), label)


# rewrite -------------------------------------------------------------------------------------------------------------
REWRITE_ORDERS = (
    "Rewrite the chat message in a formal tone.", "Make this reply polite and formal.",
    "Turn the note into formal English.",
    "Put this in a formal tone for a customer letter.",
)  # fmt: skip
GREETINGS = (("hey {name}, ", "Hello {name}, "), ("hi {name}, ", "Dear {name}, "), ("", ""))
CASUAL = (
    "my {item} doesn't work", "i can't find the {item}", "the {item} isn't here",
    "we haven't seen the {item} in {city}",
    "it's gonna reach {city} on {day}", "i'm in {city} until {day}", "i've sent the {item} to {city}",
    "you're next after {name2}",
    "the driver didn't come on {day}", "i wanna swap the {item}", "u gotta call {name2} on {day}",
    "i don't need the {item}",
    "the price wasn't right in {city}", "we won't ship on {day}", "i couldn't open the box of the {item}",
    "that's the {item} from {city}", "the {item} ain't ready", "i'd like the {item} on {day}",
)  # fmt: skip
JOINTS = (" and ", " cuz ", ", but ", ". ")
ENDINGS = ("", ". pls help", ". pls call asap", ". thx", ". pls send more info", ". i need it tmrw", ". thx {name2}")
FORMAL = dict(CONTRACTIONS) | {"i": "I"}


def formal(text: str) -> str:
    """Spell out casual words, start sentences with capitals, end with a full stop."""
    words = [
        FORMAL[m[1]] + m[2] if (m := re.fullmatch(r"([^\s.,]+)([.,]?)", w)) and m[1] in FORMAL else w
        for w in text.split(" ")
    ]
    sentences = " ".join(words).split(". ")
    return ". ".join(s[0].upper() + s[1:] for s in sentences) + "."


def rewrite(r: Random) -> Pair:
    """A casual note and its formal wording, word by word."""
    name, name2 = r.sample(NAMES, 2)
    slots = {"name": name, "name2": name2, "item": item(r), "city": r.choice(CITIES), "day": r.choice(DAYS)}
    first, second = r.sample(CASUAL, 2)
    body = (first + r.choice(JOINTS) + second + r.choice(ENDINGS)).format(**slots)
    casual, proper = r.choice(GREETINGS)
    neat = formal(body)
    if casual and not neat.startswith("I "):
        neat = neat[0].lower() + neat[1:]
    return Pair(r.choice(REWRITE_ORDERS), casual.format(**slots) + body, proper.format(**slots) + neat)


# answer --------------------------------------------------------------------------------------------------------------
ANSWER_ORDERS = (
    "Answer the question from the notes.", "Use only the notes to answer.",
    "What do the notes say? Answer in a few words.",
    "Find the answer in the context.",
)  # fmt: skip
# (sentence, question, answer) over a subject {s}, a number {n} and a name {p}; {i} is the item of the whole record.
FACTS: tuple[tuple[str, str, str], ...] = (
    ("The {city} shop opens at {hour}.", "When does the {city} shop open?", "at {hour}"),
    ("The {colour} {i} costs {n} euros.", "How much is the {colour} {i}?", "{n} euros"),
    ("The {colour} {i} has a warranty of {n} months.", "How long is the warranty of the {colour} {i}?", "{n} months"),
    ("Parcels to {city} take {n} days.", "How long does a parcel to {city} take?", "{n} days"),
    ("On {day} the desk is run by {p}.", "Who runs the desk on {day}?", "{p}"),
    ("{city} returns go to {p}.", "Who handles returns from {city}?", "{p}"),
    ("In {month} the {i} is {n} percent off.", "What is the discount on the {i} in {month}?", "{n} percent"),
    ("The {city} depot holds {n} boxes of the {i}.", "How many boxes does the {city} depot hold?", "{n} boxes"),
    ("The {colour} {i} is sold in {city2}.", "Where can I buy the {colour} {i}?", "in {city2}"),
    ("{p} repairs the {colour} {i}.", "Who repairs the {colour} {i}?", "{p}"),
    ("On {day} the truck drives to {city2}.", "Where does the truck go on {day}?", "to {city2}"),
    ("{p} sits in the {city} office.", "In which office is {p}?", "{city}"),
)
EXTRA = (
    "", "", "Prices include tax.", "Call us for more.", "The list was made in {month}.",
    "Holidays may change this.", "Bring the receipt.",
)  # fmt: skip


def answer(r: Random) -> Pair:
    """One of two to four facts of the same form, chosen by its subject."""
    sentence, question, short = r.choice(FACTS)
    count = r.choice((2, 3, 3))
    columns: dict[str, Sequence[object]] = {
        "city": r.sample(CITIES, count), "city2": r.sample(CITIES, count), "colour": r.sample(COLOURS, count),
        "day": r.sample(DAYS, count),
        "month": r.sample(MONTHS, count), "p": r.sample(NAMES, count), "n": r.sample(range(2, 60), count),
        "hour": r.sample(range(6, 13), count), "i": [r.choice(PRODUCTS)] * count,
    }  # fmt: skip
    rows = [{k: v[j] for k, v in columns.items()} for j in range(count)]
    notes = [sentence.format(**row) for row in rows] + [r.choice(EXTRA).format(month=r.choice(MONTHS))]
    asked = r.choice(rows)
    text = " ".join(n for n in notes if n) + "\n" + question.format(**asked)
    return Pair(r.choice(ANSWER_ORDERS), text, short.format(**asked))


# summarise -----------------------------------------------------------------------------------------------------------
SUMMARISE_ORDERS = (
    "Summarise the ticket in one sentence.", "Write a one line summary for the agent.",
    "What does the customer want, and why? One sentence.",
    "Shorten this ticket to one sentence.",
)  # fmt: skip
# What is wanted, how customers say it, and the reasons that go with it.
WANTS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "a refund for": (("I want my money back.", "Please return what I paid.", "Kindly pay me back."), ("broken", "late",
        "wrong", "expensive", "unwanted")),
    "a replacement for": (("Please send me another one.", "I would like the same one again, but new.",
        "Can I get a fresh one?"), ("broken", "late", "wrong")),
    "a repair of": (("Can somebody fix it?", "Please mend it.", "I hope it can be made to work."), ("broken",)),
    "a pickup of": (("Please send a driver to fetch it.", "Could the courier collect it from my door?",
        "Somebody should come and take it away."), ("broken", "wrong", "unwanted")),
    "news about": (("Where is it now?", "Tell me when it comes.", "I only want to know what happens next."), ("late",)),
}  # fmt: skip
REASONS: dict[str, tuple[str, tuple[str, ...]]] = {
    "broken": ("it is broken", ("It fell apart after {number} days.", "One part snapped off on {day}.",
        "It has not worked since {day}.")),
    "late": ("it is late", ("It should have been here on {day}.", "I have waited {number} days.",
        "The date you promised was {day}.")),
    "wrong": ("it is the wrong one", ("I asked for something else on {day}.",
        "The label in the box names another model.", "You mixed it up with order {number}.")),
    "expensive": ("it is too expensive", ("A shop in {city} sells it for less.", "I saw it {number} euros cheaper.",
        "My budget in {city} is small.")),
    "unwanted": ("it is not needed", ("My sister in {city} gave me hers.", "We found the old one on {day}.",
        "I have {number} of them already.")),
}  # fmt: skip
TICKET_OPENINGS = (
    "{name} here, about the {item}.", "I am {name} and I bought the {item}.", "My {item} is why I write. {name}",
    "Dear desk, this is {name} with the {item}.",
    "{name} called: the {item}.", "The {item} again. This is {name}.", "From {name}, about the {item}.",
)  # fmt: skip
NOISE = (
    "", "I live in {city}.", "The weather was bad.", "My order was placed in {month}.", "I am not angry.",
    "I called twice.", "Your shop was nice before.",
)  # fmt: skip


def summarise(r: Random) -> Pair:
    """Who wants what, for which item, and why."""
    want = r.choice(list(WANTS))
    wishes, fitting = WANTS[want]
    reason, complaints = REASONS[r.choice(fitting)]
    slots = {
        "name": r.choice(NAMES), "item": item(r), "city": r.choice(CITIES), "day": r.choice(DAYS),
        "month": r.choice(MONTHS),
        "number": r.randint(3, 90),
    }  # fmt: skip
    middle = [r.choice(complaints), r.choice(NOISE), r.choice(wishes)]
    r.shuffle(middle)
    text = " ".join(p for p in [r.choice(TICKET_OPENINGS), *middle] if p)
    short = "{name} wants {want} the {item} because {reason}."
    return Pair(r.choice(SUMMARISE_ORDERS), text.format(**slots), short.format(want=want, reason=reason, **slots))


# redirect ------------------------------------------------------------------------------------------------------------
REDIRECT_ORDERS = (
    "Reply politely; the desk only handles orders.",
    "The request is outside the desk's work. Redirect the customer politely.",
    "Answer for the shop. Send questions that are not about orders elsewhere.", "Write a polite redirect.",
)  # fmt: skip
OUTSIDE: dict[str, tuple[str, ...]] = {
    "a doctor": ("Which pill helps against a fever?", "My back hurts after {number} hours. What should I take?",
        "Is coffee bad for my heart?", "How do I treat a burn?"),
    "a lawyer": ("Can I sue my neighbour in {city}?", "Is my work contract valid after {month}?",
        "Write a will for me.", "May my landlord enter on {day}?"),
    "the tax office": ("How do I file my tax in {city}?", "Is a car tax free in {month}?",
        "Which tax form do I need by {day}?", "Can I save tax with {number} rooms?"),
    "a travel agent": ("Book me a flight to {city}.", "Which hotel in {city} is best?", "Plan my trip for {month}.",
        "Is there a night train to {city} on {day}?"),
    "your teacher": ("Solve {number} plus {number} times two for my class.", "Write my essay about {city} by {day}.",
        "Who was the first king of {city}?", "Explain the poem that we read in {month}."),
    "{name2}": ("Give me the address of {name2}.", "What did {name2} buy on {day}?", "Read me the password of {name2}.",
        "Does {name2} from {city} shop here?"),
}  # fmt: skip
REDIRECT_OPENINGS = (
    "{name} here, the {item} is fine.", "Thanks for the {item}! {name}", "It is {name}, I have your {item}.",
    "I am {name}, the one with the {item}.",
    "Hello, {name} with the {item} again.", "The {item} came on {day}, says {name}.",
)  # fmt: skip
REDIRECT_CLOSINGS = (
    "", "You always know.", "I need it by {day}.", "Nobody else answers.", "Just a quick one.",
    "I am in {city} now.",
)  # fmt: skip


def redirect(r: Random) -> Pair:
    """A friendly no that names who can help and what the desk can do."""
    where = r.choice(list(OUTSIDE))
    name, name2 = r.sample(NAMES, 2)
    slots = {
        "name": name, "name2": name2, "item": item(r), "city": r.choice(CITIES), "day": r.choice(DAYS),
        "month": r.choice(MONTHS),
        "number": r.randint(3, 90),
    }  # fmt: skip
    parts = [r.choice(REDIRECT_OPENINGS), r.choice(OUTSIDE[where]), r.choice(REDIRECT_CLOSINGS)]
    reply = f"Sorry {name}, please ask {where} about that. For the {slots['item']} we are glad to help.".format(**slots)
    return Pair(r.choice(REDIRECT_ORDERS), " ".join(p for p in parts if p).format(**slots), reply)


# -------------------------------------------------------------------------------------------------------------- the set
CATEGORIES: dict[str, Callable[[Random], Pair]] = {
    "extract": extract, "classify": classify, "rewrite": rewrite, "answer": answer, "summarise": summarise,
    "redirect": redirect,
}  # fmt: skip


def views(pair: Pair) -> tuple[frozenset[str], ...]:
    """Shingles of prompt, completion (when it is longer than an answer of a few words) and whole record."""
    prompt = f"{pair.instruction}\n\n{pair.input}"
    completion = pair.output if len(pair.output.split()) > 6 else ""
    return shingles(prompt), shingles(completion), shingles(f"{prompt}\n\n{pair.output}")


def make_records(seed: int = SEED, per_category: int = PER_CATEGORY) -> list[dict[str, str]]:
    """The whole set: categories take turns, near repeats are refused."""
    r = Random(seed)
    seen = (Seen(), Seen(), Seen())
    records: list[dict[str, str]] = []
    for turn in range(per_category * len(CATEGORIES)):
        category = list(CATEGORIES)[turn % len(CATEGORIES)]
        while True:
            pair = CATEGORIES[category](r)
            found = views(pair)
            if all(s.closest(v) < MAX_SIMILARITY for s, v in zip(seen, found, strict=True)):
                break
        for s, v in zip(seen, found, strict=True):
            s.add(v)
        records.append({"id": f"sd-{turn + 1:04d}", **pair._asdict(), "category": category})
    return records


def main() -> None:
    """Write the set beside this script, or into the folder given."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    lines = [json.dumps(record, ensure_ascii=False) + "\n" for record in make_records()]
    (folder / "support_desk.jsonl").write_bytes("".join(lines).encode())


if __name__ == "__main__":
    main()
