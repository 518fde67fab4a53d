"""Incidents replayed at virtual time: scripted traffic and faults, and the engine that decides for real."""
