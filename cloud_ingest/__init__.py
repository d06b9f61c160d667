"""Ingest, store, API and page: from batches at the broker to observations people can ask for."""
