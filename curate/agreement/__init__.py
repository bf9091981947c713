"""How far annotators agree: on a whole question in `curate.agreement.measure`, live at a desk in `LiveAgreement`.

Only what is light is offered here: a screen that shows agreement after each answer loads no numpy for it.
"""

from curate.agreement.answers import Answers, Confusion, Gold, Moments, key_of
from curate.agreement.gold import read_gold
from curate.agreement.live import Glance, LiveAgreement, Peer
from curate.agreement.rates import grade

__all__ = [
    "Answers",
    "Confusion",
    "Glance",
    "Gold",
    "LiveAgreement",
    "Moments",
    "Peer",
    "grade",
    "key_of",
    "read_gold",
]
