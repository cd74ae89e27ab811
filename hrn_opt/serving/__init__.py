"""Many callers, one machine: a worker with cancel and limits, the models it holds, and its memory. No web in it."""
