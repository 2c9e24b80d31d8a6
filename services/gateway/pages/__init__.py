"""The pages: templates, static files, and what they show of a launch."""
