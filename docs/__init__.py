"""The documentation, and the generator of the pages that are read off the code."""
