"""`python -m arraysmith` is the command `arraysmith`."""

from arraysmith.cli import main

main()
