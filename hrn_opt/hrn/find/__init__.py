"""From a photo to every face's box and 68 points."""
