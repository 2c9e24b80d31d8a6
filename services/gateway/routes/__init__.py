"""The HTTP routes: the v1 API, BinderHub's addresses, and the pages."""
