"""One file per source corpus; its docstring is the corpus card."""
