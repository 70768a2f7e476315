"""Delivery into the EHR: the ledger of what is where, and the FHIR calls that bring it there at most once."""
