"""The pages: templates, static files, and the view of a launch that they show."""
