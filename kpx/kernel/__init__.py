"""Typed doors to the kernel, shared by the proxier and the tools. No Kubernetes words in here."""
