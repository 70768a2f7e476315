"""A FHIR R4 server for tests, in a process of its own, that shares nothing with the package under test.

It speaks HTTP on loopback, can be made to lack abilities and to fail in every way servers fail, and writes each
resource it accepts into a ledger of its own. What was delivered is judged by that ledger (`judge`), not by anybody's
word.

Facts: FHIR R4 RESTful API (https://hl7.org/fhir/R4/http.html), Bundle, CapabilityStatement, OperationOutcome; RFC 9110.
"""

from tests.fhir_server.abilities import Abilities
from tests.fhir_server.faults import Fault, Faults
from tests.fhir_server.judge import Judgement, Wanted, judge
from tests.fhir_server.ledger import Written, read_ledger
from tests.fhir_server.process import Endpoint, FhirServer

__all__ = [
    "Abilities",
    "Endpoint",
    "Fault",
    "Faults",
    "FhirServer",
    "Judgement",
    "Wanted",
    "Written",
    "judge",
    "read_ledger",
]
