"""Delivery into the EHR: the ledger of what is where, and the FHIR calls that bring it there at most once."""

from medscribe_pipeline.ehr.client import FhirClient
from medscribe_pipeline.ehr.delivery import DeliveryReport, deliver_day

__all__ = ["DeliveryReport", "FhirClient", "deliver_day"]
