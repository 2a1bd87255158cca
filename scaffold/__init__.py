"""For those who work on the project: write the files of something new. It is not installed with the suite."""
