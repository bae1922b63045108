"""`python -m convscope` is the command line."""

from convscope.cli import main

main()
