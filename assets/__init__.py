"""Dagster assets, checks, jobs, schedules and sensors. Each asset opens, calls the connector, reports."""
