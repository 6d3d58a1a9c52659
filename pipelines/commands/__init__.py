"""What the command `unmuffle` does, one file for each thing it is done to."""
