"""Meshes, UV maps, cameras and the rasteriser that every model shares."""
