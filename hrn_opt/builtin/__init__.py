"""The embedded model: finds faces, places 478 points on each, reconstructs from them."""
