"""medscribe-pipeline: AI scribe notes into FHIR R4 documents, a SQL warehouse and an EHR."""

__version__ = "0.1.0"
