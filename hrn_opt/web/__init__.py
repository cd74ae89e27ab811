"""The web page: words, widgets, callbacks; its users, settings, private folders, and a guard before it."""
