"""The steps, composed; and the command `unmuffle`."""
