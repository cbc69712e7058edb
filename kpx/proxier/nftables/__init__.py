"""Mode nftables: a few maps and shared chains in a table of our own, written over netlink."""
