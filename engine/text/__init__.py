"""Text to token ids: profiles clean, the encoder assembles and tokenises, the tokenizer is hashed."""
