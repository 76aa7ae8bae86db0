"""Settings: definition, sources and error reports."""
