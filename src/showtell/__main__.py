"""`python -m showtell`: the command line."""

from showtell.cli import main

main()
