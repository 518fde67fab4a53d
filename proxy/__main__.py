"""`python -m proxy` is the command `fusebox`."""

from proxy.cli import main

main(prog_name="fusebox")
