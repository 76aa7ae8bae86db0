"""The path of a text, from raw record to acknowledged signal."""
