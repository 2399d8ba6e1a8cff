"""The command line, `gandyn COMMAND ...`, and the parser of options that experiments share.

What answers without training (help, lists, a wrong flag) imports no jax: what there is to choose from is read from
`catalogue.json`, which `python -m gandyn.cli.gathering` writes from the real objects.
"""

from gandyn.cli.entry import main
from gandyn.cli.parsing import parse

__all__ = ["main", "parse"]
