"""Training data: caption files, captions.h5 and feature files."""
