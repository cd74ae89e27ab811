"""Measurements that anyone can repeat: `./start.sh bench`."""
