"""Whether this node is ready for kpx in place of its service proxy, and what that changes. Nothing is changed here."""
