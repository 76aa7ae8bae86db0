"""Signal subscription behind stream.client: selection, buffering, dating and pacing."""
