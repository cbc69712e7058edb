"""The kernel's tables as commands print them: `kpx ipvs`. Reading, choosing and printing are apart from each other."""
