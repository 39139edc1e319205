"""Publish an archive again, as a live collector would."""
