"""The website: what is generated of a run, and Sphinx's configuration (``make site``)."""
