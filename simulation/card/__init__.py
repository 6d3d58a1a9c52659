"""The measured card of a corpus: what was asked for beside what came out, and what it was made from.

table.py      rows as a table: everything measured, and what was asked where it can be compared
facts.py      the card in numbers: hours, quantiles, speakers, licences, quarantine
alarms.py     what a person should look at before training on it
samples.py    which rows are heard
figures.py    its pictures
page.py       one self-contained HTML page
"""

from simulation.card.alarms import Quality
from simulation.card.facts import CardFacts
from simulation.card.page import Card, card

__all__ = ["Card", "CardFacts", "Quality", "card"]
