"""``kpx diff``: what the cluster wants of this node against what its kernel really holds, Service by Service."""
