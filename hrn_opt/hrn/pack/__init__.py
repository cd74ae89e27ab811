"""What lies on the disk: the pack as published, how it is fetched, checked and prepared."""
