"""Many callers, one machine: a worker with cancel and limits, private folders, and a guard for the web."""
