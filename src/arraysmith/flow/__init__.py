"""One function a verb: read, compute, write. What the command line and Python both call."""
