"""HRN's results in the engine's own types: mesh, camera, detail maps."""
