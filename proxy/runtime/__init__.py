"""The one place where adapters meet services: composition, signals, reload, workers, the end."""
