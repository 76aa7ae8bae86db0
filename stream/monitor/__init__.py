"""Displays for operators: live tape, its summary, and the audit of outcomes."""
