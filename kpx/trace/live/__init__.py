"""Real packets of a Service as the kernel reports them, flow by flow: whom they reached, and by which rules.

`tracer.LiveTrace` is the door; it prints nothing. `docs/trace.md` says what is changed in the kernel for it.
"""
