"""What a person looks at: the live tape, its summary, and the audit of outcomes."""
