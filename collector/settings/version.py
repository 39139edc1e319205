"""The version of this release, where everything below `collector` may read it."""

__version__ = "0.1.0"
