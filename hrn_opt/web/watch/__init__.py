"""What an operator sees: the log, the metrics, health and readiness."""
