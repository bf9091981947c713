"""What is wrong with the records of a workshop: found beside the work, in groups, and kept up with every decision."""

from curate.sessions.problems.book import Applied, ProblemBook, book_of
from curate.sessions.problems.excerpt import Excerpt, Row
from curate.sessions.problems.found import ELSEWHERE, Group, Problems
from curate.sessions.problems.listing import By, Heading, Item, listed
from curate.sessions.problems.mend import Mending, Mendings, fixes_for

__all__ = [
    "Applied",
    "By",
    "ELSEWHERE",
    "Excerpt",
    "Group",
    "Heading",
    "Item",
    "Mending",
    "Mendings",
    "ProblemBook",
    "Problems",
    "Row",
    "book_of",
    "fixes_for",
    "listed",
]
