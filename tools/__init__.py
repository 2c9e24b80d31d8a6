"""Programs for those who work on Bindery: nothing of it is installed or imported by what runs."""
