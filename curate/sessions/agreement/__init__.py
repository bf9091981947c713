"""How far annotators agree: on a whole question in `curate.sessions.agreement.measure`, live in a label session, in
`LiveAgreement`.

Only what is light is offered here: a screen that shows agreement after each answer loads no numpy for it.
"""

from curate.sessions.agreement.answers import Answers, Confusion, Moments, key_of
from curate.sessions.agreement.live import AgreementGlance, LiveAgreement, Peer
from curate.sessions.agreement.rates import grade

__all__ = [
    "Answers",
    "Confusion",
    "AgreementGlance",
    "LiveAgreement",
    "Moments",
    "Peer",
    "grade",
    "key_of",
]
