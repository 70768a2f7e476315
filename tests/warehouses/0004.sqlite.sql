BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0004');
CREATE TABLE change_counter (
	id INTEGER NOT NULL, 
	value BIGINT NOT NULL, 
	CONSTRAINT pk_change_counter PRIMARY KEY (id)
);
INSERT INTO "change_counter" VALUES(1,2);
CREATE TABLE deliveries (
	target VARCHAR(64) NOT NULL, 
	note_id VARCHAR(36) NOT NULL, 
	kind VARCHAR(64) NOT NULL, 
	version VARCHAR(64) NOT NULL, 
	account VARCHAR(64) NOT NULL, 
	visit_day DATE NOT NULL, 
	source_seq BIGINT NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	reason VARCHAR(64), 
	server_id VARCHAR(64), 
	etag VARCHAR(64), 
	attempts INTEGER NOT NULL, 
	outcome_codes TEXT, 
	claimed_by VARCHAR(64), 
	claimed_at VARCHAR(32), 
	sent_at VARCHAR(32), 
	settled_at VARCHAR(32), 
	CONSTRAINT pk_deliveries PRIMARY KEY (target, note_id, kind, version)
);
INSERT INTO "deliveries" VALUES('zz-target-0','00000000-0000-4000-8000-000000000000','zz-kind-0','zz-version-0','zz-account-0','2026-03-02',1,'held','zz-reason-0','zz-server_id-0','zz-etag-0',1,'{"numbers":[1,2.5,null,true],"text":"Testa Zz-Patient: «ünï» ''quoted'' 100 % \\ {brace} 😀"}','zz-claimed_by-0','2026-03-02T09:30:00.123456+00:00','2026-03-02T09:30:00.123456+00:00','2026-03-02T09:30:00.123456+00:00');
INSERT INTO "deliveries" VALUES('zz-target-1','00000000-0000-4000-8000-000000000001','zz-kind-1','zz-version-1','zz-account-1','2026-03-03',2,'held',NULL,NULL,NULL,2,NULL,NULL,NULL,NULL,NULL);
CREATE TABLE ehr_references (
	account VARCHAR(64) NOT NULL, 
	target VARCHAR(64) NOT NULL, 
	kind VARCHAR(64) NOT NULL, 
	system VARCHAR(255) NOT NULL, 
	value VARCHAR(255) NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	server_id VARCHAR(64), 
	subject_id VARCHAR(64), 
	origin VARCHAR(16) NOT NULL, 
	looked_at VARCHAR(32) NOT NULL, 
	CONSTRAINT pk_ehr_references PRIMARY KEY (account, target, kind, system, value)
);
INSERT INTO "ehr_references" VALUES('zz-account-0','zz-target-0','zz-kind-0','zz-system-0','zz-value-0','zz-state-0','zz-server_id-0','zz-subject_id-0','zz-origin-0','2026-03-02T09:30:00.123456+00:00');
INSERT INTO "ehr_references" VALUES('zz-account-1','zz-target-1','zz-kind-1','zz-system-1','zz-value-1','zz-state-1',NULL,NULL,'zz-origin-1','2026-03-03T09:30:00.123456+00:00');
CREATE TABLE fhir_documents (
	note_id VARCHAR(36) NOT NULL, 
	kind VARCHAR(64) NOT NULL, 
	account VARCHAR(64) NOT NULL, 
	visit_day DATE NOT NULL, 
	resource TEXT NOT NULL, 
	version VARCHAR(64) NOT NULL, 
	mapping_version VARCHAR(64) NOT NULL, 
	source_seq BIGINT NOT NULL, 
	built_at VARCHAR(32) NOT NULL, 
	CONSTRAINT pk_fhir_documents PRIMARY KEY (note_id, kind), 
	CONSTRAINT fk_fhir_documents_note_id_notes FOREIGN KEY(note_id) REFERENCES notes (note_id) ON DELETE CASCADE
);
INSERT INTO "fhir_documents" VALUES('00000000-0000-4000-8000-000000000000','zz-kind-0','zz-account-0','2026-03-02','{"numbers":[1,2.5,null,true],"text":"Testa Zz-Patient: «ünï» ''quoted'' 100 % \\ {brace} 😀"}','zz-version-0','zz-mapping_version-0',1,'2026-03-02T09:30:00.123456+00:00');
INSERT INTO "fhir_documents" VALUES('00000000-0000-4000-8000-000000000001','zz-kind-1','zz-account-1','2026-03-03','{"numbers":[1,2.5,null,true],"text":"Testa Zz-Patient: «ünï» ''quoted'' 100 % \\ {brace} 😀"}','zz-version-1','zz-mapping_version-1',2,'2026-03-03T09:30:00.123456+00:00');
CREATE TABLE inbox (
	account VARCHAR(64) NOT NULL, 
	provider VARCHAR(64) NOT NULL, 
	event_id VARCHAR(255) NOT NULL, 
	seq BIGINT NOT NULL, 
	kind VARCHAR(64) NOT NULL, 
	payload TEXT NOT NULL, 
	verified BOOLEAN NOT NULL, 
	received_at VARCHAR(32) NOT NULL, 
	deliveries INTEGER NOT NULL, 
	attempts INTEGER NOT NULL, 
	code VARCHAR(64), 
	processed_at VARCHAR(32), 
	CONSTRAINT pk_inbox PRIMARY KEY (account, provider, event_id)
);
INSERT INTO "inbox" VALUES('zz-account-0','zz-provider-0','zz-event_id-0',1,'zz-kind-0','{"numbers":[1,2.5,null,true],"text":"Testa Zz-Patient: «ünï» ''quoted'' 100 % \\ {brace} 😀"}',1,'2026-03-02T09:30:00.123456+00:00',1,1,'zz-code-0','2026-03-02T09:30:00.123456+00:00');
INSERT INTO "inbox" VALUES('zz-account-1','zz-provider-1','zz-event_id-1',2,'zz-kind-1','{"numbers":[1,2.5,null,true],"text":"Testa Zz-Patient: «ünï» ''quoted'' 100 % \\ {brace} 😀"}',0,'2026-03-03T09:30:00.123456+00:00',2,2,NULL,NULL);
CREATE TABLE note_sections (
	note_id VARCHAR(36) NOT NULL, 
	ordinal INTEGER NOT NULL, 
	parent_ordinal INTEGER, 
	"key" VARCHAR(255), 
	title TEXT, 
	text TEXT NOT NULL, format VARCHAR(16) DEFAULT 'text' NOT NULL, 
	CONSTRAINT pk_note_sections PRIMARY KEY (note_id, ordinal), 
	CONSTRAINT fk_note_sections_note_id_notes FOREIGN KEY(note_id) REFERENCES notes (note_id) ON DELETE CASCADE
);
INSERT INTO "note_sections" VALUES('00000000-0000-4000-8000-000000000000',1,1,'zz-key-0','Testa Zz-Patient: «ünï» ''quoted'' 100 % \ {brace} 😀','Testa Zz-Patient: «ünï» ''quoted'' 100 % \ {brace} 😀','text');
INSERT INTO "note_sections" VALUES('00000000-0000-4000-8000-000000000001',2,NULL,NULL,NULL,'Testa Zz-Patient: «ünï» ''quoted'' 100 % \ {brace} 😀','text');
CREATE TABLE notes (
	note_id VARCHAR(36) NOT NULL, 
	account VARCHAR(64) NOT NULL, 
	provider VARCHAR(64) NOT NULL, 
	stream VARCHAR(64) NOT NULL, 
	source_id VARCHAR(255) NOT NULL, 
	kind VARCHAR(64) NOT NULL, 
	visit_day DATE NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	title TEXT, 
	language VARCHAR(64), 
	template VARCHAR(64), 
	patient_system VARCHAR(255), 
	patient_id VARCHAR(255), 
	practitioner TEXT, 
	encounter_system VARCHAR(255), 
	encounter_id VARCHAR(255), 
	started_at VARCHAR(32), 
	ended_at VARCHAR(32), 
	created_at VARCHAR(32), 
	updated_at VARCHAR(32), 
	validated_at VARCHAR(32), 
	has_text BOOLEAN NOT NULL, 
	version VARCHAR(64) NOT NULL, 
	source_seq BIGINT NOT NULL, 
	mapped_at VARCHAR(32) NOT NULL, specialty VARCHAR(64), attested BOOLEAN, validated_version VARCHAR(64), text_hash VARCHAR(64), amends VARCHAR(64), 
	CONSTRAINT pk_notes PRIMARY KEY (note_id), 
	CONSTRAINT uq_notes_account UNIQUE (account, provider, stream, source_id, kind)
);
INSERT INTO "notes" VALUES('00000000-0000-4000-8000-000000000000','zz-account-0','zz-provider-0','zz-stream-0','zz-source_id-0','zz-kind-0','2026-03-02','draft','Testa Zz-Patient: «ünï» ''quoted'' 100 % \ {brace} 😀','zz-language-0','zz-template-0','zz-patient_system-0','zz-patient_id-0','{"display":"Dr Zz","identifiers":[{"system":"urn:zz","value":"zz-7"}],"role_identifiers":[]}','zz-encounter_system-0','zz-encounter_id-0','2026-03-02T09:30:00.123456+00:00','2026-03-02T09:30:00.123456+00:00','2026-03-02T09:30:00.123456+00:00','2026-03-02T09:30:00.123456+00:00','2026-03-02T09:30:00.123456+00:00',1,'zz-version-0',1,'2026-03-02T09:30:00.123456+00:00','zz-specialty-0',1,'zz-validated_version-0','zz-text_hash-0','zz-amends-0');
INSERT INTO "notes" VALUES('00000000-0000-4000-8000-000000000001','zz-account-1','zz-provider-1','zz-stream-1','zz-source_id-1','zz-kind-1','2026-03-03','draft',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,0,'zz-version-1',2,'2026-03-03T09:30:00.123456+00:00',NULL,NULL,NULL,NULL,NULL);
CREATE TABLE oauth_tokens (
	account VARCHAR(64) NOT NULL, 
	provider VARCHAR(64) NOT NULL, 
	seed_hash VARCHAR(64) NOT NULL, 
	refresh_token TEXT NOT NULL, 
	access_token TEXT NOT NULL, 
	expires_at VARCHAR(32) NOT NULL, 
	rotated_at VARCHAR(32) NOT NULL, 
	CONSTRAINT pk_oauth_tokens PRIMARY KEY (account, provider)
);
INSERT INTO "oauth_tokens" VALUES('zz-account-0','zz-provider-0','zz-seed_hash-0','Testa Zz-Patient: «ünï» ''quoted'' 100 % \ {brace} 😀','Testa Zz-Patient: «ünï» ''quoted'' 100 % \ {brace} 😀','2026-03-02T09:30:00.123456+00:00','2026-03-02T09:30:00.123456+00:00');
INSERT INTO "oauth_tokens" VALUES('zz-account-1','zz-provider-1','zz-seed_hash-1','Testa Zz-Patient: «ünï» ''quoted'' 100 % \ {brace} 😀','Testa Zz-Patient: «ünï» ''quoted'' 100 % \ {brace} 😀','2026-03-03T09:30:00.123456+00:00','2026-03-03T09:30:00.123456+00:00');
CREATE TABLE quarantine (
	id VARCHAR(36) NOT NULL, 
	account VARCHAR(64) NOT NULL, 
	stage VARCHAR(16) NOT NULL, 
	provider VARCHAR(64) NOT NULL, 
	stream VARCHAR(64) NOT NULL, 
	source_id VARCHAR(255) NOT NULL, 
	visit_day DATE, 
	error_code VARCHAR(64) NOT NULL, 
	field_paths TEXT NOT NULL, 
	payload TEXT, 
	payload_hash VARCHAR(64) NOT NULL, 
	attempts INTEGER NOT NULL, 
	first_seen_at VARCHAR(32) NOT NULL, 
	last_seen_at VARCHAR(32) NOT NULL, 
	resolved_at VARCHAR(32), 
	run_id VARCHAR(64), 
	CONSTRAINT pk_quarantine PRIMARY KEY (id)
);
INSERT INTO "quarantine" VALUES('zz-id-0','zz-account-0','extract','zz-provider-0','zz-stream-0','zz-source_id-0','2026-03-02','zz-error_code-0','["a.b","c"]','{"numbers":[1,2.5,null,true],"text":"Testa Zz-Patient: «ünï» ''quoted'' 100 % \\ {brace} 😀"}','zz-payload_hash-0',1,'2026-03-02T09:30:00.123456+00:00','2026-03-02T09:30:00.123456+00:00','2026-03-02T09:30:00.123456+00:00','zz-run_id-0');
INSERT INTO "quarantine" VALUES('zz-id-1','zz-account-1','extract','zz-provider-1','zz-stream-1','zz-source_id-1',NULL,'zz-error_code-1','["a.b","c"]',NULL,'zz-payload_hash-1',2,'2026-03-03T09:30:00.123456+00:00','2026-03-03T09:30:00.123456+00:00',NULL,NULL);
CREATE TABLE rate_budgets (
	account VARCHAR(64) NOT NULL, 
	provider VARCHAR(64) NOT NULL, 
	kind VARCHAR(64) NOT NULL, 
	window_at VARCHAR(32) NOT NULL, 
	used INTEGER NOT NULL, 
	CONSTRAINT pk_rate_budgets PRIMARY KEY (account, provider, kind)
);
INSERT INTO "rate_budgets" VALUES('zz-account-0','zz-provider-0','zz-kind-0','2026-03-02T09:30:00.123456+00:00',1);
INSERT INTO "rate_budgets" VALUES('zz-account-1','zz-provider-1','zz-kind-1','2026-03-03T09:30:00.123456+00:00',2);
CREATE TABLE scribe_jobs (
	account VARCHAR(64) NOT NULL, 
	provider VARCHAR(64) NOT NULL, 
	job_key VARCHAR(255) NOT NULL, 
	correlation_key VARCHAR(255) NOT NULL, 
	step VARCHAR(64) NOT NULL, 
	client_request_id VARCHAR(128) NOT NULL, 
	request TEXT NOT NULL, 
	request_hash VARCHAR(64) NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	vendor_job_id VARCHAR(255), 
	code VARCHAR(64), 
	submissions INTEGER NOT NULL, 
	polls INTEGER NOT NULL, 
	next_poll_at VARCHAR(32), 
	expires_at VARCHAR(32), 
	claimed_by VARCHAR(64), 
	wanted_at VARCHAR(32) NOT NULL, 
	submitted_at VARCHAR(32), 
	settled_at VARCHAR(32), 
	run_id VARCHAR(64), 
	CONSTRAINT pk_scribe_jobs PRIMARY KEY (account, provider, job_key)
);
INSERT INTO "scribe_jobs" VALUES('zz-account-0','zz-provider-0','zz-job_key-0','zz-correlation_key-0','zz-step-0','zz-client_request_id-0','{"numbers":[1,2.5,null,true],"text":"Testa Zz-Patient: «ünï» ''quoted'' 100 % \\ {brace} 😀"}','zz-request_hash-0','zz-state-0','zz-vendor_job_id-0','zz-code-0',1,1,'2026-03-02T09:30:00.123456+00:00','2026-03-02T09:30:00.123456+00:00','zz-claimed_by-0','2026-03-02T09:30:00.123456+00:00','2026-03-02T09:30:00.123456+00:00','2026-03-02T09:30:00.123456+00:00','zz-run_id-0');
INSERT INTO "scribe_jobs" VALUES('zz-account-1','zz-provider-1','zz-job_key-1','zz-correlation_key-1','zz-step-1','zz-client_request_id-1','{"numbers":[1,2.5,null,true],"text":"Testa Zz-Patient: «ünï» ''quoted'' 100 % \\ {brace} 😀"}','zz-request_hash-1','zz-state-1',NULL,NULL,2,2,NULL,NULL,NULL,'2026-03-03T09:30:00.123456+00:00',NULL,NULL,NULL);
CREATE TABLE source_records (
	account VARCHAR(64) NOT NULL, 
	provider VARCHAR(64) NOT NULL, 
	stream VARCHAR(64) NOT NULL, 
	source_id VARCHAR(255) NOT NULL, 
	payload TEXT NOT NULL, 
	content_hash VARCHAR(64) NOT NULL, 
	list_hash VARCHAR(64) NOT NULL, 
	source_updated_at VARCHAR(32), 
	fetched_at VARCHAR(32) NOT NULL, 
	visit_day DATE NOT NULL, 
	parent_id VARCHAR(255), 
	change_seq BIGINT NOT NULL, 
	run_id VARCHAR(64), 
	outcome VARCHAR(16), 
	outcome_code VARCHAR(64), 
	mapped_seq BIGINT, 
	mapped_with VARCHAR(64), 
	CONSTRAINT pk_source_records PRIMARY KEY (account, provider, stream, source_id)
);
INSERT INTO "source_records" VALUES('zz-account-0','zz-provider-0','zz-stream-0','zz-source_id-0','{"numbers":[1,2.5,null,true],"text":"Testa Zz-Patient: «ünï» ''quoted'' 100 % \\ {brace} 😀"}','zz-content_hash-0','zz-list_hash-0','2026-03-02T09:30:00.123456+00:00','2026-03-02T09:30:00.123456+00:00','2026-03-02','zz-parent_id-0',1,'zz-run_id-0','held','zz-outcome_code-0',1,'zz-mapped_with-0');
INSERT INTO "source_records" VALUES('zz-account-1','zz-provider-1','zz-stream-1','zz-source_id-1','{"numbers":[1,2.5,null,true],"text":"Testa Zz-Patient: «ünï» ''quoted'' 100 % \\ {brace} 😀"}','zz-content_hash-1','zz-list_hash-1',NULL,'2026-03-03T09:30:00.123456+00:00','2026-03-03',NULL,2,NULL,NULL,NULL,NULL,NULL);
CREATE TABLE sync_cursor_history (
	id INTEGER NOT NULL, 
	account VARCHAR(64) NOT NULL, 
	provider VARCHAR(64) NOT NULL, 
	stream VARCHAR(64) NOT NULL, 
	watermark VARCHAR(32), 
	signpost VARCHAR(255), 
	moved_at VARCHAR(32) NOT NULL, 
	run_id VARCHAR(64), 
	CONSTRAINT pk_sync_cursor_history PRIMARY KEY (id)
);
INSERT INTO "sync_cursor_history" VALUES(1,'zz-account-0','zz-provider-0','zz-stream-0','2026-03-02T09:30:00.123456+00:00','zz-signpost-0','2026-03-02T09:30:00.123456+00:00','zz-run_id-0');
INSERT INTO "sync_cursor_history" VALUES(2,'zz-account-1','zz-provider-1','zz-stream-1',NULL,NULL,'2026-03-03T09:30:00.123456+00:00',NULL);
CREATE TABLE sync_cursors (
	account VARCHAR(64) NOT NULL, 
	provider VARCHAR(64) NOT NULL, 
	stream VARCHAR(64) NOT NULL, 
	watermark VARCHAR(32), 
	signpost VARCHAR(255), 
	moved_at VARCHAR(32) NOT NULL, 
	run_id VARCHAR(64), 
	CONSTRAINT pk_sync_cursors PRIMARY KEY (account, provider, stream)
);
INSERT INTO "sync_cursors" VALUES('zz-account-0','zz-provider-0','zz-stream-0','2026-03-02T09:30:00.123456+00:00','zz-signpost-0','2026-03-02T09:30:00.123456+00:00','zz-run_id-0');
INSERT INTO "sync_cursors" VALUES('zz-account-1','zz-provider-1','zz-stream-1',NULL,NULL,'2026-03-03T09:30:00.123456+00:00',NULL);
CREATE TABLE transcripts (
	note_id VARCHAR(36) NOT NULL, 
	turns TEXT NOT NULL, 
	CONSTRAINT pk_transcripts PRIMARY KEY (note_id), 
	CONSTRAINT fk_transcripts_note_id_notes FOREIGN KEY(note_id) REFERENCES notes (note_id) ON DELETE CASCADE
);
INSERT INTO "transcripts" VALUES('00000000-0000-4000-8000-000000000000','[{"end_offset_ms":1500,"speaker":"doctor","start_offset_ms":0,"text":"Testa Zz-Patient: «ünï» ''quoted'' 100 % \\ {brace} 😀"}]');
INSERT INTO "transcripts" VALUES('00000000-0000-4000-8000-000000000001','[{"end_offset_ms":1500,"speaker":"doctor","start_offset_ms":0,"text":"Testa Zz-Patient: «ünï» ''quoted'' 100 % \\ {brace} 😀"}]');
CREATE TABLE visit_days (
	account VARCHAR(64) NOT NULL, 
	visit_day DATE NOT NULL, 
	changed_seq BIGINT NOT NULL, 
	built_seq BIGINT NOT NULL, 
	built_with VARCHAR(64), 
	CONSTRAINT pk_visit_days PRIMARY KEY (account, visit_day)
);
INSERT INTO "visit_days" VALUES('zz-account-0','2026-03-02',1,1,'zz-built_with-0');
INSERT INTO "visit_days" VALUES('zz-account-1','2026-03-03',2,2,NULL);
CREATE TABLE "visits" (
	account VARCHAR(64) NOT NULL, 
	provider VARCHAR(64) NOT NULL, 
	correlation_key VARCHAR(255) NOT NULL, 
	patient_id VARCHAR(255), 
	patient_system VARCHAR(255), 
	practitioner_id VARCHAR(255), 
	practitioner_system VARCHAR(255), 
	encounter_id VARCHAR(255), 
	encounter_system VARCHAR(255), 
	started_at VARCHAR(32), 
	ended_at VARCHAR(32), 
	language VARCHAR(64), 
	template VARCHAR(64), 
	imported_at VARCHAR(32) DEFAULT CURRENT_TIMESTAMP NOT NULL, 
	audio_url TEXT, 
	audio_path TEXT, 
	section_style VARCHAR(64), 
	split_by_problem BOOLEAN, 
	diarization BOOLEAN, 
	category VARCHAR(64), specialty VARCHAR(64), 
	CONSTRAINT pk_visits PRIMARY KEY (account, provider, correlation_key), 
	CONSTRAINT ck_visits_started_at_is_a_time CHECK (started_at IS NULL OR (started_at GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]*' AND started_at BETWEEN '1000' AND '9998' AND datetime(started_at) IS NOT NULL AND date(substr(started_at, 1, 10), '+0 days') = substr(started_at, 1, 10) AND substr(started_at, 12, 2) < '24')), 
	CONSTRAINT ck_visits_ended_at_is_a_time CHECK (ended_at IS NULL OR (ended_at GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]*' AND ended_at BETWEEN '1000' AND '9998' AND datetime(ended_at) IS NOT NULL AND date(substr(ended_at, 1, 10), '+0 days') = substr(ended_at, 1, 10) AND substr(ended_at, 12, 2) < '24'))
);
INSERT INTO "visits" VALUES('zz-account-0','zz-provider-0','zz-correlation_key-0','zz-patient_id-0','zz-patient_system-0','zz-practitioner_id-0','zz-practitioner_system-0','zz-encounter_id-0','zz-encounter_system-0','2026-03-02T09:30:00.123456+00:00','2026-03-02T09:30:00.123456+00:00','zz-language-0','zz-template-0','2026-03-02T09:30:00.123456+00:00','Testa Zz-Patient: «ünï» ''quoted'' 100 % \ {brace} 😀','Testa Zz-Patient: «ünï» ''quoted'' 100 % \ {brace} 😀','zz-section_style-0',1,1,'zz-category-0','zz-specialty-0');
INSERT INTO "visits" VALUES('zz-account-1','zz-provider-1','zz-correlation_key-1',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'2026-03-03T09:30:00.123456+00:00',NULL,NULL,NULL,NULL,NULL,NULL,NULL);
CREATE INDEX ix_deliveries_day ON deliveries (account, target, visit_day, state);
CREATE INDEX ix_notes_day ON notes (account, visit_day);
CREATE INDEX ix_quarantine_open ON quarantine (account, resolved_at, stage);
CREATE INDEX ix_source_records_day ON source_records (account, visit_day, provider, stream);
CREATE INDEX ix_source_records_parent ON source_records (account, provider, parent_id);
CREATE INDEX ix_fhir_documents_day ON fhir_documents (account, visit_day);
CREATE INDEX ix_inbox_open ON inbox (account, processed_at, seq);
CREATE INDEX ix_scribe_jobs_client ON scribe_jobs (account, provider, client_request_id);
CREATE INDEX ix_scribe_jobs_due ON scribe_jobs (account, provider, state, next_poll_at);
CREATE INDEX ix_scribe_jobs_vendor ON scribe_jobs (account, provider, vendor_job_id);
CREATE INDEX ix_scribe_jobs_visit ON scribe_jobs (account, provider, correlation_key);
COMMIT;
