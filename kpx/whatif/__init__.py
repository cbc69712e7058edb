"""``kpx trace --if``: the walk over the rules that kpx would make if something were otherwise."""
