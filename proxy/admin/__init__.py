"""The admin face: health, metrics and the API that people and tools use (contract, Admin API)."""
