"""What is odd about each scribe vendor, and the polite HTTP client they share."""
