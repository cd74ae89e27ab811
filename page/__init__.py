"""The web page: words, widgets, callbacks. What it shows is made in hrn_opt."""
