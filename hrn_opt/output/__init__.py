"""From a reconstruction to files, pictures and reports."""
