"""Operating the connector: what a day came to and why, what a person has to do, and whether everything is in order."""
