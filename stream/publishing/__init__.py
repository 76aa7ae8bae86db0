"""Publishing of text files to the raw topics."""
