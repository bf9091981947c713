"""What is wrong with the records of a workshop: found beside the work, in groups, and kept up with every decision."""

from curate.workshop.problems.book import Applied, ProblemBook, book_of
from curate.workshop.problems.excerpt import Excerpt, Row
from curate.workshop.problems.found import ELSEWHERE, Group, Problems
from curate.workshop.problems.listing import By, Heading, Item, listed
from curate.workshop.problems.mend import Mending, Mendings, fixes_for

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
