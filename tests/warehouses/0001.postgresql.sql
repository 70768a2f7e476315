CREATE TABLE public.alembic_version (
    version_num character varying(32) NOT NULL
);
CREATE TABLE public.change_counter (
    id integer NOT NULL,
    value bigint NOT NULL
);
CREATE TABLE public.deliveries (
    target character varying(64) NOT NULL,
    note_id character varying(36) NOT NULL,
    kind character varying(64) NOT NULL,
    version character varying(64) NOT NULL,
    account character varying(64) NOT NULL,
    visit_day date NOT NULL,
    source_seq bigint NOT NULL,
    state character varying(16) NOT NULL,
    reason character varying(64),
    server_id character varying(64),
    etag character varying(64),
    attempts integer NOT NULL,
    outcome_codes jsonb,
    claimed_by character varying(64),
    claimed_at timestamp with time zone,
    sent_at timestamp with time zone,
    settled_at timestamp with time zone
);
CREATE TABLE public.fhir_documents (
    note_id character varying(36) NOT NULL,
    kind character varying(64) NOT NULL,
    account character varying(64) NOT NULL,
    visit_day date NOT NULL,
    resource jsonb NOT NULL,
    version character varying(64) NOT NULL,
    mapping_version character varying(64) NOT NULL,
    source_seq bigint NOT NULL,
    built_at timestamp with time zone NOT NULL
);
CREATE TABLE public.note_sections (
    note_id character varying(36) NOT NULL,
    ordinal integer NOT NULL,
    parent_ordinal integer,
    key character varying(255),
    title text,
    text text NOT NULL
);
CREATE TABLE public.notes (
    note_id character varying(36) NOT NULL,
    account character varying(64) NOT NULL,
    provider character varying(64) NOT NULL,
    stream character varying(64) NOT NULL,
    source_id character varying(255) NOT NULL,
    kind character varying(64) NOT NULL,
    visit_day date NOT NULL,
    state character varying(16) NOT NULL,
    title text,
    language character varying(64),
    template character varying(64),
    patient_system character varying(255),
    patient_id character varying(255),
    practitioner jsonb,
    encounter_system character varying(255),
    encounter_id character varying(255),
    started_at timestamp with time zone,
    ended_at timestamp with time zone,
    created_at timestamp with time zone,
    updated_at timestamp with time zone,
    validated_at timestamp with time zone,
    has_text boolean NOT NULL,
    version character varying(64) NOT NULL,
    source_seq bigint NOT NULL,
    mapped_at timestamp with time zone NOT NULL
);
CREATE TABLE public.oauth_tokens (
    account character varying(64) NOT NULL,
    provider character varying(64) NOT NULL,
    seed_hash character varying(64) NOT NULL,
    refresh_token text NOT NULL,
    access_token text NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    rotated_at timestamp with time zone NOT NULL
);
CREATE TABLE public.quarantine (
    id character varying(36) NOT NULL,
    account character varying(64) NOT NULL,
    stage character varying(16) NOT NULL,
    provider character varying(64) NOT NULL,
    stream character varying(64) NOT NULL,
    source_id character varying(255) NOT NULL,
    visit_day date,
    error_code character varying(64) NOT NULL,
    field_paths jsonb NOT NULL,
    payload jsonb,
    payload_hash character varying(64) NOT NULL,
    attempts integer NOT NULL,
    first_seen_at timestamp with time zone NOT NULL,
    last_seen_at timestamp with time zone NOT NULL,
    resolved_at timestamp with time zone,
    run_id character varying(64)
);
CREATE TABLE public.source_records (
    account character varying(64) NOT NULL,
    provider character varying(64) NOT NULL,
    stream character varying(64) NOT NULL,
    source_id character varying(255) NOT NULL,
    payload jsonb NOT NULL,
    content_hash character varying(64) NOT NULL,
    list_hash character varying(64) NOT NULL,
    source_updated_at timestamp with time zone,
    fetched_at timestamp with time zone NOT NULL,
    visit_day date NOT NULL,
    parent_id character varying(255),
    change_seq bigint NOT NULL,
    run_id character varying(64),
    outcome character varying(16),
    outcome_code character varying(64),
    mapped_seq bigint,
    mapped_with character varying(64)
);
CREATE TABLE public.sync_cursor_history (
    id integer NOT NULL,
    account character varying(64) NOT NULL,
    provider character varying(64) NOT NULL,
    stream character varying(64) NOT NULL,
    watermark timestamp with time zone,
    signpost character varying(255),
    moved_at timestamp with time zone NOT NULL,
    run_id character varying(64)
);
CREATE SEQUENCE public.sync_cursor_history_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.sync_cursor_history_id_seq OWNED BY public.sync_cursor_history.id;
CREATE TABLE public.sync_cursors (
    account character varying(64) NOT NULL,
    provider character varying(64) NOT NULL,
    stream character varying(64) NOT NULL,
    watermark timestamp with time zone,
    signpost character varying(255),
    moved_at timestamp with time zone NOT NULL,
    run_id character varying(64)
);
CREATE TABLE public.transcripts (
    note_id character varying(36) NOT NULL,
    turns jsonb NOT NULL
);
CREATE TABLE public.visit_days (
    account character varying(64) NOT NULL,
    visit_day date NOT NULL,
    changed_seq bigint NOT NULL,
    built_seq bigint NOT NULL,
    built_with character varying(64)
);
CREATE TABLE public.visits (
    account character varying(64) NOT NULL,
    provider character varying(64) NOT NULL,
    correlation_key character varying(255) NOT NULL,
    patient_id character varying(255),
    patient_system character varying(255),
    practitioner_id character varying(255),
    practitioner_system character varying(255),
    encounter_id character varying(255),
    encounter_system character varying(255),
    started_at timestamp with time zone,
    ended_at timestamp with time zone,
    language character varying(64),
    template character varying(64),
    imported_at timestamp with time zone NOT NULL
);
ALTER TABLE ONLY public.sync_cursor_history ALTER COLUMN id SET DEFAULT nextval('public.sync_cursor_history_id_seq'::regclass);
INSERT INTO public.alembic_version VALUES ('0001');
INSERT INTO public.change_counter VALUES (1, 2);
INSERT INTO public.deliveries VALUES ('zz-target-0', '00000000-0000-4000-8000-000000000000', 'zz-kind-0', 'zz-version-0', 'zz-account-0', '2026-03-02', 1, 'held', 'zz-reason-0', 'zz-server_id-0', 'zz-etag-0', 1, '{"text": "Testa Zz-Patient: «ünï» ''quoted'' 100 % \\ {brace} 😀", "numbers": [1, 2.5, null, true]}', 'zz-claimed_by-0', '2026-03-02 09:30:00.123456+00', '2026-03-02 09:30:00.123456+00', '2026-03-02 09:30:00.123456+00');
INSERT INTO public.deliveries VALUES ('zz-target-1', '00000000-0000-4000-8000-000000000001', 'zz-kind-1', 'zz-version-1', 'zz-account-1', '2026-03-03', 2, 'held', NULL, NULL, NULL, 2, NULL, NULL, NULL, NULL, NULL);
INSERT INTO public.fhir_documents VALUES ('00000000-0000-4000-8000-000000000000', 'zz-kind-0', 'zz-account-0', '2026-03-02', '{"text": "Testa Zz-Patient: «ünï» ''quoted'' 100 % \\ {brace} 😀", "numbers": [1, 2.5, null, true]}', 'zz-version-0', 'zz-mapping_version-0', 1, '2026-03-02 09:30:00.123456+00');
INSERT INTO public.fhir_documents VALUES ('00000000-0000-4000-8000-000000000001', 'zz-kind-1', 'zz-account-1', '2026-03-03', '{"text": "Testa Zz-Patient: «ünï» ''quoted'' 100 % \\ {brace} 😀", "numbers": [1, 2.5, null, true]}', 'zz-version-1', 'zz-mapping_version-1', 2, '2026-03-03 09:30:00.123456+00');
INSERT INTO public.note_sections VALUES ('00000000-0000-4000-8000-000000000000', 1, 1, 'zz-key-0', 'Testa Zz-Patient: «ünï» ''quoted'' 100 % \ {brace} 😀', 'Testa Zz-Patient: «ünï» ''quoted'' 100 % \ {brace} 😀');
INSERT INTO public.note_sections VALUES ('00000000-0000-4000-8000-000000000001', 2, NULL, NULL, NULL, 'Testa Zz-Patient: «ünï» ''quoted'' 100 % \ {brace} 😀');
INSERT INTO public.notes VALUES ('00000000-0000-4000-8000-000000000000', 'zz-account-0', 'zz-provider-0', 'zz-stream-0', 'zz-source_id-0', 'zz-kind-0', '2026-03-02', 'draft', 'Testa Zz-Patient: «ünï» ''quoted'' 100 % \ {brace} 😀', 'zz-language-0', 'zz-template-0', 'zz-patient_system-0', 'zz-patient_id-0', '{"display": "Dr Zz", "identifiers": [{"value": "zz-7", "system": "urn:zz"}], "role_identifiers": []}', 'zz-encounter_system-0', 'zz-encounter_id-0', '2026-03-02 09:30:00.123456+00', '2026-03-02 09:30:00.123456+00', '2026-03-02 09:30:00.123456+00', '2026-03-02 09:30:00.123456+00', '2026-03-02 09:30:00.123456+00', true, 'zz-version-0', 1, '2026-03-02 09:30:00.123456+00');
INSERT INTO public.notes VALUES ('00000000-0000-4000-8000-000000000001', 'zz-account-1', 'zz-provider-1', 'zz-stream-1', 'zz-source_id-1', 'zz-kind-1', '2026-03-03', 'draft', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, false, 'zz-version-1', 2, '2026-03-03 09:30:00.123456+00');
INSERT INTO public.oauth_tokens VALUES ('zz-account-0', 'zz-provider-0', 'zz-seed_hash-0', 'Testa Zz-Patient: «ünï» ''quoted'' 100 % \ {brace} 😀', 'Testa Zz-Patient: «ünï» ''quoted'' 100 % \ {brace} 😀', '2026-03-02 09:30:00.123456+00', '2026-03-02 09:30:00.123456+00');
INSERT INTO public.oauth_tokens VALUES ('zz-account-1', 'zz-provider-1', 'zz-seed_hash-1', 'Testa Zz-Patient: «ünï» ''quoted'' 100 % \ {brace} 😀', 'Testa Zz-Patient: «ünï» ''quoted'' 100 % \ {brace} 😀', '2026-03-03 09:30:00.123456+00', '2026-03-03 09:30:00.123456+00');
INSERT INTO public.quarantine VALUES ('zz-id-0', 'zz-account-0', 'extract', 'zz-provider-0', 'zz-stream-0', 'zz-source_id-0', '2026-03-02', 'zz-error_code-0', '["a.b", "c"]', '{"text": "Testa Zz-Patient: «ünï» ''quoted'' 100 % \\ {brace} 😀", "numbers": [1, 2.5, null, true]}', 'zz-payload_hash-0', 1, '2026-03-02 09:30:00.123456+00', '2026-03-02 09:30:00.123456+00', '2026-03-02 09:30:00.123456+00', 'zz-run_id-0');
INSERT INTO public.quarantine VALUES ('zz-id-1', 'zz-account-1', 'extract', 'zz-provider-1', 'zz-stream-1', 'zz-source_id-1', NULL, 'zz-error_code-1', '["a.b", "c"]', NULL, 'zz-payload_hash-1', 2, '2026-03-03 09:30:00.123456+00', '2026-03-03 09:30:00.123456+00', NULL, NULL);
INSERT INTO public.source_records VALUES ('zz-account-0', 'zz-provider-0', 'zz-stream-0', 'zz-source_id-0', '{"text": "Testa Zz-Patient: «ünï» ''quoted'' 100 % \\ {brace} 😀", "numbers": [1, 2.5, null, true]}', 'zz-content_hash-0', 'zz-list_hash-0', '2026-03-02 09:30:00.123456+00', '2026-03-02 09:30:00.123456+00', '2026-03-02', 'zz-parent_id-0', 1, 'zz-run_id-0', 'held', 'zz-outcome_code-0', 1, 'zz-mapped_with-0');
INSERT INTO public.source_records VALUES ('zz-account-1', 'zz-provider-1', 'zz-stream-1', 'zz-source_id-1', '{"text": "Testa Zz-Patient: «ünï» ''quoted'' 100 % \\ {brace} 😀", "numbers": [1, 2.5, null, true]}', 'zz-content_hash-1', 'zz-list_hash-1', NULL, '2026-03-03 09:30:00.123456+00', '2026-03-03', NULL, 2, NULL, NULL, NULL, NULL, NULL);
INSERT INTO public.sync_cursor_history VALUES (1, 'zz-account-0', 'zz-provider-0', 'zz-stream-0', '2026-03-02 09:30:00.123456+00', 'zz-signpost-0', '2026-03-02 09:30:00.123456+00', 'zz-run_id-0');
INSERT INTO public.sync_cursor_history VALUES (2, 'zz-account-1', 'zz-provider-1', 'zz-stream-1', NULL, NULL, '2026-03-03 09:30:00.123456+00', NULL);
INSERT INTO public.sync_cursors VALUES ('zz-account-0', 'zz-provider-0', 'zz-stream-0', '2026-03-02 09:30:00.123456+00', 'zz-signpost-0', '2026-03-02 09:30:00.123456+00', 'zz-run_id-0');
INSERT INTO public.sync_cursors VALUES ('zz-account-1', 'zz-provider-1', 'zz-stream-1', NULL, NULL, '2026-03-03 09:30:00.123456+00', NULL);
INSERT INTO public.transcripts VALUES ('00000000-0000-4000-8000-000000000000', '[{"text": "Testa Zz-Patient: «ünï» ''quoted'' 100 % \\ {brace} 😀", "speaker": "doctor", "end_offset_ms": 1500, "start_offset_ms": 0}]');
INSERT INTO public.transcripts VALUES ('00000000-0000-4000-8000-000000000001', '[{"text": "Testa Zz-Patient: «ünï» ''quoted'' 100 % \\ {brace} 😀", "speaker": "doctor", "end_offset_ms": 1500, "start_offset_ms": 0}]');
INSERT INTO public.visit_days VALUES ('zz-account-0', '2026-03-02', 1, 1, 'zz-built_with-0');
INSERT INTO public.visit_days VALUES ('zz-account-1', '2026-03-03', 2, 2, NULL);
INSERT INTO public.visits VALUES ('zz-account-0', 'zz-provider-0', 'zz-correlation_key-0', 'zz-patient_id-0', 'zz-patient_system-0', 'zz-practitioner_id-0', 'zz-practitioner_system-0', 'zz-encounter_id-0', 'zz-encounter_system-0', '2026-03-02 09:30:00.123456+00', '2026-03-02 09:30:00.123456+00', 'zz-language-0', 'zz-template-0', '2026-03-02 09:30:00.123456+00');
INSERT INTO public.visits VALUES ('zz-account-1', 'zz-provider-1', 'zz-correlation_key-1', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, '2026-03-03 09:30:00.123456+00');
SELECT pg_catalog.setval('public.sync_cursor_history_id_seq', 1, false);
ALTER TABLE ONLY public.alembic_version
    ADD CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num);
ALTER TABLE ONLY public.change_counter
    ADD CONSTRAINT pk_change_counter PRIMARY KEY (id);
ALTER TABLE ONLY public.deliveries
    ADD CONSTRAINT pk_deliveries PRIMARY KEY (target, note_id, kind, version);
ALTER TABLE ONLY public.fhir_documents
    ADD CONSTRAINT pk_fhir_documents PRIMARY KEY (note_id, kind);
ALTER TABLE ONLY public.note_sections
    ADD CONSTRAINT pk_note_sections PRIMARY KEY (note_id, ordinal);
ALTER TABLE ONLY public.notes
    ADD CONSTRAINT pk_notes PRIMARY KEY (note_id);
ALTER TABLE ONLY public.oauth_tokens
    ADD CONSTRAINT pk_oauth_tokens PRIMARY KEY (account, provider);
ALTER TABLE ONLY public.quarantine
    ADD CONSTRAINT pk_quarantine PRIMARY KEY (id);
ALTER TABLE ONLY public.source_records
    ADD CONSTRAINT pk_source_records PRIMARY KEY (account, provider, stream, source_id);
ALTER TABLE ONLY public.sync_cursor_history
    ADD CONSTRAINT pk_sync_cursor_history PRIMARY KEY (id);
ALTER TABLE ONLY public.sync_cursors
    ADD CONSTRAINT pk_sync_cursors PRIMARY KEY (account, provider, stream);
ALTER TABLE ONLY public.transcripts
    ADD CONSTRAINT pk_transcripts PRIMARY KEY (note_id);
ALTER TABLE ONLY public.visit_days
    ADD CONSTRAINT pk_visit_days PRIMARY KEY (account, visit_day);
ALTER TABLE ONLY public.visits
    ADD CONSTRAINT pk_visits PRIMARY KEY (account, provider, correlation_key);
ALTER TABLE ONLY public.notes
    ADD CONSTRAINT uq_notes_account UNIQUE (account, provider, stream, source_id, kind);
CREATE INDEX ix_deliveries_day ON public.deliveries USING btree (account, target, visit_day, state);
CREATE INDEX ix_fhir_documents_day ON public.fhir_documents USING btree (account, visit_day);
CREATE INDEX ix_notes_day ON public.notes USING btree (account, visit_day);
CREATE INDEX ix_quarantine_open ON public.quarantine USING btree (account, resolved_at, stage);
CREATE INDEX ix_source_records_day ON public.source_records USING btree (account, visit_day, provider, stream);
CREATE INDEX ix_source_records_parent ON public.source_records USING btree (account, provider, parent_id);
ALTER TABLE ONLY public.fhir_documents
    ADD CONSTRAINT fk_fhir_documents_note_id_notes FOREIGN KEY (note_id) REFERENCES public.notes(note_id) ON DELETE CASCADE;
ALTER TABLE ONLY public.note_sections
    ADD CONSTRAINT fk_note_sections_note_id_notes FOREIGN KEY (note_id) REFERENCES public.notes(note_id) ON DELETE CASCADE;
ALTER TABLE ONLY public.transcripts
    ADD CONSTRAINT fk_transcripts_note_id_notes FOREIGN KEY (note_id) REFERENCES public.notes(note_id) ON DELETE CASCADE;
