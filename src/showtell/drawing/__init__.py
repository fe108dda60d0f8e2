"""Pictures with text: titles, contact sheets and attention maps."""
