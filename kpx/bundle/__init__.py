"""A node's state in one file, for somebody elsewhere: written with nothing secret in it, and worked on without root."""
