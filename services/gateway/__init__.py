"""The public edge: pages, badges, the v1 API, BinderHub's façade, and the conductor of launches."""
