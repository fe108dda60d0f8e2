"""Images without alt text in web pages."""
