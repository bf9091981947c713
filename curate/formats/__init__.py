"""Forms of files: what is read in, what is written out, how findings are reported, and the dataset itself."""
