"""What must outlive the process: the kill decision and the tokens, each in a file of its own."""
