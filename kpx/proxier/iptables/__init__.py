"""iptables mode: kube-proxy's chains, exactly, with only what changed rewritten."""
