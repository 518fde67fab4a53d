"""Fusebox: a safety sidecar in front of a recommender and the services around it."""

__version__ = "0.1.0"
