"""ipvs mode: the kernel's virtual servers choose the endpoint; a few rules and IP sets do what they cannot."""
