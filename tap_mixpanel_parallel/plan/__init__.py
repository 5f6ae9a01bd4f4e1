"""Days, windows, the saved state, and the plan of a run. Pure."""
