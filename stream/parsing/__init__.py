"""Raw records to items: what each says, or why it cannot be read."""
