"""What has to hold, one module for each part; each check returns its figures and lists what is not as it should be."""
