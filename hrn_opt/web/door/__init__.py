"""What stands between strangers and the page: connections, requests, visitors, and whose is what."""
