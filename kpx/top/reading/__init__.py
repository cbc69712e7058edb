"""What reads the node: the kernel's counters and tables, and what the daemon or the API says. No screen in here."""
