"""Parsers of vendors' records: one pure function per vendor. Read base.py first."""
