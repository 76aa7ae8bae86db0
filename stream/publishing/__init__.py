"""Files of texts to raw topics."""
