"""iptables: which variant a node uses, reading its tables, and changing them through the restore program."""
