"""Made-up HRN packs in the published layout."""
