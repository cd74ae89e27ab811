"""From a prepared pack to networks and tables on their devices, within a memory budget."""
