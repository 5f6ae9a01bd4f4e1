"""What a run has to read: days, windows, states. Pure."""
