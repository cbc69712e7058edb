"""What draws lines and tables. Only what is visible costs anything."""
