"""The endpoint for programs."""
