"""The command line: `fusebox --help`."""

from proxy.cli.app import main

__all__ = ["main"]
