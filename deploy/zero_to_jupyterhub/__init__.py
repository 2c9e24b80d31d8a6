"""Values for a zero-to-jupyterhub release whose hub starts our servers: `bindery hub-values` prints them."""
