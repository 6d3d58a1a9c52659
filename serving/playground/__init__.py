"""The web page at `/`: drop a file or record, hear before and after, see both, stream live, read the scorecard."""
