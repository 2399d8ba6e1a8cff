"""`python -m gandyn` is `gandyn`."""

from gandyn.cli import main

main()
