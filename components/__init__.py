"""One file per KFP step: a thin shell around one function of the layers below, and where it runs."""
