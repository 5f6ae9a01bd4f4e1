"""Settings: declared, read, checked."""
