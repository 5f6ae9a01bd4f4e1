"""From a window to its body on disk."""
