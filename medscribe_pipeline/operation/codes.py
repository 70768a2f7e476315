"""Every code this project makes up itself: why something stopped, what to do, and which command helps.

What the same code asks for also depends on where it stands; `reasons.explain` puts the two together.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["REASONS", "Act", "Reason"]


class Act(StrEnum):
    """What a reason asks for.

    `NOTHING`: it is accounted for, and nothing more comes of it. `WAITS`: it goes on by itself, or when somebody else
    has done their part. `PERSON`: it stays as it is until a person does something about it here.
    """

    NOTHING = "nothing"
    WAITS = "waits"
    PERSON = "person"


@dataclass(frozen=True, slots=True)
class Reason:
    """One code. `None` where its kind says it.

    Attributes:
        says: Why it stopped, as the end of a sentence, without a full stop.
        to_do: What a person can do, as a sentence without its capital letter and full stop.
        command: The command that helps, complete but for what is in capitals.
        act: What it asks for.
    """

    says: str
    to_do: str | None = None
    command: str | None = None
    act: Act | None = None


_SYNC = "medscribe sync"
_VISITS = "medscribe visits import FILE"
_LINKS = "medscribe links list"
_QUARANTINE = "medscribe quarantine list"
_DISCARD = "medscribe deliveries discard NOTE"

_NEVER = "nothing: no note comes of it any more"
_COMPARE = "compare and decide on the server"
_NEXT_TIME = "nothing for now: every sync asks for it again"
_MAPPING = "report it, or mend the mapping; then replay it"


REASONS: Mapping[str, Reason] = MappingProxyType(
    {
        # Records without a note
        "archived_without_note": Reason("archived before a note was written", _NEVER, "", Act.NOTHING),
        "empty_note": Reason("the note is empty", _NEVER, "", Act.NOTHING),
        "empty_transcript": Reason("nothing was said in the recording", _NEVER, "", Act.NOTHING),
        "failed_at_provider": Reason("the provider could not transcribe it", _NEVER, "", Act.NOTHING),
        "no_note": Reason("the provider's answer holds no note", _NEVER, "", Act.NOTHING),
        "no_text": Reason("the provider's answer holds no text", _NEVER, "", Act.NOTHING),
        "transcript_only": Reason("a transcript, and no note was asked for", _NEVER, "", Act.NOTHING),
        "note_language": Reason("the provider writes no notes in its language", _NEVER, "", Act.NOTHING),
        "text_in_note": Reason("its text is in another record's note", "nothing", "", Act.NOTHING),
        "discarded": Reason("somebody put it aside", "nothing, unless that was a mistake", "", Act.NOTHING),
        "forgotten": Reason("forgotten on request", "nothing", "", Act.NOTHING),
        "gone_at_provider": Reason("the provider does not hold it any more", "nothing", "", Act.NOTHING),
        "payload_removed": Reason(
            "it has to be mapped again, and its payload was removed for its age",
            "pull it again with --full-refresh",
            "medscribe sync --full-refresh",
            Act.PERSON,
        ),
        "no_note_yet": Reason(
            "transcribed, but no note written yet", "remind the clinician to have the note written", "", Act.WAITS
        ),
        "not_transcribed_yet": Reason(
            "still recording or being transcribed",
            "nothing for now: syncing asks the provider how far it is",
            _SYNC,
            Act.WAITS,
        ),
        # Notes that are held
        "not_validated": Reason(
            "no clinician has validated it yet",
            "remind the clinicians to validate their notes; each goes out with the sync after that",
            "",
            Act.WAITS,
        ),
        "patient_unknown": Reason(
            "nobody says who the patient is: import a visits manifest",
            "import a visits manifest that names the patient",
            _VISITS,
            Act.PERSON,
        ),
        "patient_missing": Reason(
            "the EHR knows no such patient: see `medscribe links list`",
            "register the patient in the EHR, or link them by hand",
            _LINKS,
            Act.PERSON,
        ),
        "patient_ambiguous": Reason(
            "the EHR does not say which patient it is: link it by hand", "link the patient by hand", _LINKS, Act.PERSON
        ),
        "patient_refused": Reason(
            "the EHR refuses a search for this patient: link it by hand",
            "link the patient by hand",
            _LINKS,
            Act.PERSON,
        ),
        "practitioner_missing": Reason(
            "the EHR knows no such clinician: link them by hand", "link the clinician by hand", _LINKS, Act.PERSON
        ),
        "practitioner_ambiguous": Reason(
            "the EHR does not say which clinician it is: link them by hand",
            "link the clinician by hand",
            _LINKS,
            Act.PERSON,
        ),
        "practitioner_refused": Reason(
            "the EHR refuses a search for this clinician: link them by hand",
            "link the clinician by hand",
            _LINKS,
            Act.PERSON,
        ),
        "encounter_missing": Reason(
            "the EHR knows no such encounter", "open the encounter in the EHR, or link it by hand", _LINKS, Act.PERSON
        ),
        "encounter_ambiguous": Reason(
            "the EHR does not say which encounter it is: link it by hand",
            "link the encounter by hand",
            _LINKS,
            Act.PERSON,
        ),
        "encounter_refused": Reason(
            "the EHR refuses a search for this encounter: link it by hand",
            "link the encounter by hand",
            _LINKS,
            Act.PERSON,
        ),
        "encounter_mismatch": Reason(
            "the encounter is another patient's: see the visits manifest",
            "correct patient or encounter in the visits manifest",
            _VISITS,
            Act.PERSON,
        ),
        "retracted_before_delivery": Reason(
            "withdrawn before it was ever delivered", "nothing: it is not to go out", "", Act.NOTHING
        ),
        "superseded": Reason("a newer version exists", "nothing: the newer one goes out", "", Act.NOTHING),
        "documents_missing": Reason(
            "its documents are not built, or in quarantine", "see what is in quarantine", _QUARANTINE, Act.PERSON
        ),
        "amendment_by_hand": Reason(
            "the target takes no later versions: a person has to see to it",
            "enter the change in the EHR, then discard this version",
            _DISCARD,
            Act.PERSON,
        ),
        "retraction_by_hand": Reason(
            "the target takes no withdrawals: a person has to see to it",
            "withdraw the note in the EHR, then discard this version",
            _DISCARD,
            Act.PERSON,
        ),
        "held_by_switch": Reason(
            "HOLD_ALL of the target is on", "set HOLD_ALL of the target to false", _SYNC, Act.PERSON
        ),
        "encounter_required": Reason(
            "the target takes no note without an encounter",
            "name the encounter in the visits manifest",
            _VISITS,
            Act.PERSON,
        ),
        "author_required": Reason(
            "the target takes no note without its clinician",
            "name the clinician in the visits manifest",
            _VISITS,
            Act.PERSON,
        ),
        "period_end_required": Reason(
            "the target wants to know when the visit ended",
            "name the end of the visit in the visits manifest",
            _VISITS,
            Act.PERSON,
        ),
        "attachment_type": Reason(
            "the target takes none of the forms the note is built in",
            "set MEDSCRIBE_FHIR_RENDERINGS to a form the target takes",
            "medscribe ehr probe",
            Act.PERSON,
        ),
        "doc_status_not_accepted": Reason(
            "the target takes no document of this status",
            "nothing, if that is meant; else see the capabilities of the target",
            "medscribe ehr probe",
            Act.PERSON,
        ),
        "transcript_not_accepted": Reason(
            "the target takes no transcripts",
            "set MEDSCRIBE_FHIR_TRANSCRIPTS to false, or see the capabilities of the target",
            "medscribe ehr probe",
            Act.PERSON,
        ),
        "too_large": Reason(
            "larger than the target takes", "it is larger than the server takes; see the capabilities of the target"
        ),
        # Notes that were refused, or of which nobody knows
        "refused": Reason("the server refused it", "the codes and elements say what the server minds. Mend the cause"),
        "changed_in_ehr": Reason(
            "somebody changed it in the EHR since",
            "somebody edited the server's copy. Compare and decide there; a retry is refused as long as the copy is "
            "not what was left there",
        ),
        "newer_in_ehr": Reason(
            "the EHR has a newer one", f"what stands on the server is of a later time. {_COMPARE.capitalize()}"
        ),
        "other_version_in_ehr": Reason(
            "the EHR has another version of it",
            f"the server holds another version of this note. {_COMPARE.capitalize()}",
        ),
        "several_matches": Reason(
            "the EHR has it more than once", "the server has the note more than once. Remove the duplicates there"
        ),
        "version_unknown": Reason(
            "nothing tells which version the EHR has",
            "nothing tells which version stands on the server. Compare there, and discard what is to stay as it is",
        ),
        "replaced_was_changed": Reason("what it replaces was changed in the EHR", f"{_COMPARE}, then retry"),
        "superseding_refused": Reason("the EHR does not let the older version be marked as replaced"),
        "accepted": Reason("the server took it without saying whether it did it"),
        "conflict": Reason("somebody else wrote to it at the same moment"),
        "entry_failed": Reason("the server said of this one only that it failed"),
        "no_location": Reason("the server did not say where it put it"),
        "vanished": Reason("it was there and is not found any more"),
        "answer_incomplete": Reason("the server's answer leaves it out"),
        "answer_mixed_up": Reason("the server's answer is about something else"),
        "cannot_be_asked": Reason(
            "the target cannot be asked: look there, then `medscribe deliveries release` or `discard`",
            "look there, then say what you found",
            "medscribe deliveries release NOTE --absent | --there ID",
            Act.PERSON,
        ),
        "lookup_failed": Reason("the target did not say whether it has it"),
        "worker_died": Reason("the run died while it was sent"),
        "timeout": Reason("no answer in time"),
        "disconnected": Reason("the connection broke before an answer"),
        "unreachable": Reason("no connection could be made"),
        "server_error": Reason("the server failed"),
        "throttled": Reason("the server asked us to slow down"),
        "stopped": Reason("it was interrupted"),
        "circuit_open": Reason("the server failed too often, so it was left alone for this run"),
        "credentials": Reason(
            "the credentials were refused", "check the credentials in the settings", "medscribe doctor", Act.PERSON
        ),
        "redirect": Reason("the server redirects elsewhere", "check the base URL", "medscribe doctor", Act.PERSON),
        "protocol": Reason("the exchange broke a rule of HTTP"),
        "not_json": Reason("the answer was not JSON"),
        "undecodable": Reason("the answer could not be decompressed"),
        "body_too_large": Reason("the answer was larger than MAX_BODY_BYTES"),
        "path": Reason("it has an id that fits into no URL"),
        "read": Reason("the server answered a read with something else"),
        "search": Reason("the server answered a search with something else"),
        "token_answer": Reason(
            "the token endpoint answered something else", "check the token URL", "medscribe doctor", Act.PERSON
        ),
        "not_found": Reason("the server does not know it"),
        "rejected": Reason("the server refused the request"),
        "internal": Reason("a mistake of this project", "report it", "", Act.PERSON),
        "ledger_torn": Reason("the ledger contradicts itself", "report it", "", Act.PERSON),
        "lock_lost": Reason("the run lost its connection to the database", "sync again", _SYNC, Act.WAITS),
        "warehouse_statement": Reason("the database refused it", "report it", "", Act.PERSON),
        # Quarantine
        "wire_model": Reason("a field has the wrong type or is missing"),
        "no_id": Reason("the record has no id"),
        "too_long": Reason("a field is longer than the warehouse takes"),
        "patient_conflict": Reason(
            "note and audio name different patients", "find out at the provider whose note it is, and correct it there"
        ),
        "unexpected": Reason("this project stumbled over it", _MAPPING),
        "no_date": Reason("neither note nor visit has a time", "give the visit's time in the visits manifest", _VISITS),
        "not_buildable": Reason("it is of a kind no document is made of", _MAPPING),
        "invalid_resource": Reason("its FHIR document breaks a rule", _MAPPING),
        "detail_missing": Reason("the provider lists it, and says it is not there", _NEXT_TIME, "", Act.WAITS),
        "detail_refused": Reason("the provider lists it, and refuses to show it", _NEXT_TIME, "", Act.WAITS),
        "detail_failed": Reason("the provider lists it, and fails to show it", _NEXT_TIME, "", Act.WAITS),
        "other_record": Reason("the provider answers with another record"),
        "not_a_list": Reason("the provider answers with something that is no list"),
        "page_circle": Reason("the provider's pages lead in a circle"),
        "too_many_pages": Reason("the provider's list does not end"),
        "sealed_away": Reason(
            "its payload is sealed with a key we have not",
            "set the key it was sealed with as MEDSCRIBE_ENCRYPTION_OLD_KEY",
        ),
        # Jobs and events
        "no_result": Reason("no end within JOB_EXPIRES_AFTER_S"),
        "gone": Reason("the provider knows nothing of it"),
        "provider_failure": Reason("the provider gave it up, without a reason we can show"),
        "failed": Reason("the provider says that it failed, and not why"),
        "error": Reason("it failed, without a reason we can show"),
        "answer": Reason("the provider's answer cannot be read"),
        "wrong_job": Reason("the provider answered about another job"),
        "no_job": Reason("there is no such job"),
        "no_job_id": Reason("the provider did not say how it calls the job"),
        "no_file_id": Reason("the provider did not say how it calls the file"),
        "follow_up": Reason("what was to follow from its result could not be asked for"),
        "no_recording": Reason("the visit names no recording"),
        "language": Reason("its language is none the provider takes"),
        "category": Reason("its category is none the provider knows"),
        "section_style": Reason("its style of sections is none the provider knows"),
        "audio_path": Reason("this provider takes no local files: give an audio_url"),
        "audio_missing": Reason("the audio file is not there", "put the file there; the next sync finds it", _SYNC),
        "audio_folder": Reason("no audio folder is set", "set AUDIO_FOLDER of the provider", _SYNC),
        "audio_outside": Reason("the audio file is not in the audio folder"),
        "audio_type": Reason("the audio file is of no type the provider takes"),
        "audio_too_large": Reason("the audio file is too large"),
        "audio_empty": Reason("the audio file is empty"),
        "audio_changed": Reason("the audio file is not the one it was when the job was wanted"),
        "audio_not_a_file": Reason("the audio path leads to no file"),
        "audio_unreadable": Reason("the audio file cannot be read"),
        "audio_url": Reason("the audio URL is no URL"),
        "audio_url_credentials": Reason("the audio URL holds a user name or a password"),
        "audio_url_private": Reason("the audio URL leads to a private address"),
        "audio_url_scheme": Reason("the audio URL must begin with https://"),
    }
)
"""Every code this project makes up itself. A test holds it against the code."""
