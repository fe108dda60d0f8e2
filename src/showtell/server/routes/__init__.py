"""The paths of the server: captions, monitoring and pages."""
