"""The event log: NDJSON files of each process, Parquet by day, and SQL over both."""
