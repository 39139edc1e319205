"""The archive's folder: its layout, files that are whole or absent, the manifest, repair after a kill."""
