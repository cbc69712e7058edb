"""What this node should do with traffic to Services, and doing it."""
