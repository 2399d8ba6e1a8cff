"""The looking glass: one offline HTML page in which a whole sweep is looked into, run by run and step by step.

`write` packs a results dataset, and the players of chosen runs where they are handed in, with the page's own JavaScript
(`js/`, readable modules, joined by `assembly`) into one file. It loads nothing; what comes from the data is compressed
numbers and JSON, put into the page as text. docs/page.md says what is in it. Without jax.
"""

from gandyn.report.interactive.assembly import room_for_networks, write, write_play
from gandyn.report.interactive.telling import positions, telling

__all__ = ["positions", "room_for_networks", "telling", "write", "write_play"]
