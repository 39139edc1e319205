"""What people read from an archive: tables, SQL, its holes, an overview."""
