"""The texture: retouching undone, fitted at 256 px, upsampled from the photo."""
