"""What stands behind stream.client: selecting, buffering, dating and pacing signals."""
