"""Text to token ids: profiles.py cleans, encoder.py assembles and tokenises, tokenizer.py names what was read."""
