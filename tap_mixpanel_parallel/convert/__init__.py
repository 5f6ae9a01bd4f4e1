"""From a body to what an output takes: all of a window, or an error."""
