"""The IPVS tables, as text that equals ipvsadm's and as JSON."""
