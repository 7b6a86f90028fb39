"""One module per data set, loaded by name by :func:`tclap.load_clips`."""
